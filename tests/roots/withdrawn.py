#!/usr/bin/env python3
"""Makes src/tls/chain/withdrawn.tsv: public roots that Mozilla, Microsoft, Apple or Java have removed.

withdrawn.py WHEELS OBSERVATORY CACERTS DATE > src/tls/chain/withdrawn.tsv

WHEELS       wheels of certifi from PyPI, several a year from 2016 on: each has Mozilla's roots for servers of its day
OBSERVATORY  a clone of github.com/nabla-c0d3/trust_stores_observatory: lists of all stores, week by week since 2017
CACERTS      make/data/cacerts of a release of OpenJDK, and DATE, the day of that release (YYYY-MM-DD)

A row says of each store: the day of the first list without the root, "yes" if the newest list has it, "-" if none had it.
Roots that Mozilla's newest list has are left out, whatever others did. Only names, hashes and dates are written.
It needs the package cryptography.
"""
import glob
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import warnings
import zipfile

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID

warnings.simplefilter("ignore")
STORES = {"mozilla": "mozilla_nss", "microsoft": "microsoft_windows", "apple": "apple", "java": "openjdk", "android": "google_aosp"}
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)
certificates = {}


def read(text):
    """The digests of all certificates of a text, which are kept."""
    found = set()
    for block in PEM.findall(text):
        try:
            one = x509.load_pem_x509_certificate(block)
        except ValueError:
            continue
        digest = hashlib.sha256(one.public_bytes(Encoding.DER)).hexdigest()
        certificates[digest] = one
        found.add(digest)
    return found


def git(folder, *arguments):
    return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, check=True).stdout


def lists(observatory, store):
    """Day and digests of each list of a store, oldest first."""
    path = f"trust_stores/{store}.yaml"
    found = {}
    for commit in git(observatory, "log", "--reverse", "--format=%H", "--", path).decode().split():
        text = git(observatory, "show", f"{commit}:{path}").decode()
        trusted = text.split("\nblocked_certificates")[0]
        digests = set(re.findall(r"fingerprint: '?([0-9a-f]{64})", trusted))
        if digests:
            found[re.search(r"date_fetched: '?([0-9-]{10})", text).group(1)] = digests
    return sorted(found.items())


def day(wheel):
    year, month, day = os.path.basename(wheel).split("-")[1].split(".")[:3]
    return f"{year}-{int(month):02}-{int(day):02}"


def name(subject):
    """The common name, else the last unit or organisation."""
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME):
        if values := subject.get_attributes_for_oid(kind):
            return " ".join(values[-1 if kind != NameOID.COMMON_NAME else 0].value.split())
    return ""


def key_id(one):
    try:
        return one.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_KEY_IDENTIFIER).value.digest.hex()
    except (x509.ExtensionNotFound, ValueError):
        return x509.SubjectKeyIdentifier.from_public_key(one.public_key()).digest.hex()


def main(wheels, observatory, cacerts, released):
    for member in (archive := tarfile.open(fileobj=io.BytesIO(git(observatory, "archive", "HEAD", "certificates")))):
        if member.isfile():
            read(archive.extractfile(member).read())
    stores = {store: lists(observatory, file) for store, file in STORES.items()}
    # The observatory looks every week, certifi is older and newer.
    weekly = stores["mozilla"]
    bundles = [(day(wheel), read(zipfile.ZipFile(wheel).read("certifi/cacert.pem"))) for wheel in glob.glob(f"{wheels}/*.whl")]
    stores["mozilla"] = sorted(weekly + [one for one in bundles if not weekly[0][0] <= one[0] <= weekly[-1][0]])
    java = set().union(*(read(open(path, "rb").read()) for path in glob.glob(f"{cacerts}/*")))
    stores["java"].append((released, java))

    rows = {}
    for digest, one in certificates.items():
        states = []
        for seen in stores.values():
            had = [index for index, (_, digests) in enumerate(seen) if digest in digests]
            states.append("-" if not had else "yes" if had[-1] == len(seen) - 1 else seen[had[-1] + 1][0])
        spki = hashlib.sha256(one.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
        ends = one.not_valid_after_utc.date().isoformat()
        # Several certificates of one key: whoever has one of them has the root.
        known = rows.setdefault((name(one.subject), spki), [key_id(one), ends, states])
        known[1] = max(known[1], ends)
        known[2] = [max(pair, key=lambda state: (state != "-", state)) for pair in zip(known[2], states)]
    print("# Public roots that Mozilla, Microsoft, Apple or Java have removed since 2016. Made by tests/roots/withdrawn.py, which")
    print("# says from what. A date is the day of the first list without the root, \"yes\": the newest list has it, \"-\": none had it.")
    print("# newest lists: " + ", ".join(f"{store} {seen[-1][0]}" for store, seen in stores.items()))
    print("# name\tkey identifier\tSHA-256 of its SubjectPublicKeyInfo\tends\t" + "\t".join(stores))
    for (called, spki), (key, ends, states) in sorted(rows.items()):
        mozilla, *others = states
        if mozilla != "yes" and any(state not in ("yes", "-") for state in [mozilla, *others[:3]]):
            print("\t".join([called, key, spki, ends, *states]))


main(*sys.argv[1:])
