//! What single clients refuse in the form of a certificate: each claim against the client itself.
//!
//! Each row is one fault in an otherwise good chain. The finding says who refuses it; `openssl verify` (as it is and
//! with -x509_strict), Python, Go, Java, GnuTLS and NSS are asked, and have to agree, all of them, about each row.

use std::fs;
use std::path::{Path, PathBuf};

use handfast::check;
use handfast::demo::pki::{KeyType, generate};
use handfast::tls::Severity;
use handfast::tls::chain::{Chain, Finding, Name, Verifier};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls::pki_types::UnixTime;

use crate::binary::program;
use crate::pki::{HOST, OpenSsl, anchors, leaf_of, root, valid};

use Verifier::{GnuTls, Go, Java, Nss, OpenSsl as Plain, OpenSslStrict as Strict};

/// DER: a tag, the length, and what comes together to the content.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    match content.len() {
        short @ ..128 => bytes.push(u8::try_from(short).unwrap()),
        middle @ ..256 => bytes.extend([0x81, u8::try_from(middle).unwrap()]),
        long => bytes.extend([0x82, u8::try_from(long >> 8).unwrap(), u8::try_from(long & 0xff).unwrap()]),
    }
    bytes.extend(content);
    bytes
}

fn name(parts: &[(u8, &[u8])]) -> Vec<u8> {
    let attribute = |(tag, value): &(u8, &[u8])| {
        let one = tlv(0x30, &[b"\x06\x03\x55\x04\x03", &tlv(*tag, &[value])]);
        tlv(0x31, &[&one])
    };
    tlv(0x30, &[&parts.iter().map(attribute).collect::<Vec<_>>().concat()])
}

/// One extension of those in 2.5.29.
#[derive(Clone)]
struct Extension {
    id: u8,
    critical: bool,
    value: Vec<u8>,
}

fn extension(id: u8, critical: bool, value: Vec<u8>) -> Extension {
    Extension { id, critical, value }
}

/// Everything that a certificate says, to be changed at will.
#[derive(Clone)]
struct Parts {
    serial: Vec<u8>,
    issuer: Vec<u8>,
    not_before: Vec<u8>,
    not_after: Vec<u8>,
    subject: Vec<u8>,
    extensions: Vec<Extension>,
}

const AUTHORITY_KEY: u8 = 35;
const SUBJECT_KEY: u8 = 14;
const KEY_USAGE: u8 = 15;
const NAMES: u8 = 17;
const CONSTRAINTS: u8 = 19;

impl Parts {
    fn new(issuer: &[u8], subject: &[u8], serial: u8, extensions: Vec<Extension>) -> Self {
        let (not_before, not_after) = (time(-3), time(80));
        let (issuer, subject) = (issuer.to_vec(), subject.to_vec());
        Parts { serial: vec![serial], issuer, not_before, not_after, subject, extensions }
    }

    fn without(&mut self, id: u8) {
        self.extensions.retain(|extension| extension.id != id);
    }

    fn with(&mut self, other: Extension) {
        self.without(other.id);
        self.extensions.push(other);
    }

    fn signed(&self, key: &KeyPair, signer: &KeyPair) -> String {
        const ECDSA_WITH_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
        // Extensions came with version 3; version 1 is not written down.
        let has_extensions = !self.extensions.is_empty();
        let version = if has_extensions { tlv(0xa0, &[&[2, 1, 2]]) } else { Vec::new() };
        let extension = |one: &Extension| {
            let critical: &[u8] = if one.critical { b"\x01\x01\xff" } else { b"" };
            tlv(0x30, &[&[6, 3, 0x55, 0x1d, one.id], critical, &tlv(4, &[&one.value])])
        };
        let extensions = self.extensions.iter().map(extension).collect::<Vec<_>>().concat();
        let extensions = if has_extensions { tlv(0xa3, &[&tlv(0x30, &[&extensions])]) } else { Vec::new() };
        let body = tlv(
            0x30,
            &[
                &version,
                &tlv(2, &[&self.serial]),
                ECDSA_WITH_SHA256,
                &self.issuer,
                &tlv(0x30, &[&self.not_before, &self.not_after]),
                &self.subject,
                &key.subject_public_key_info(),
                &extensions,
            ],
        );
        let signature = signer.sign(&body).unwrap();
        pem(&tlv(0x30, &[&body, ECDSA_WITH_SHA256, &tlv(3, &[&[0], &signature])]))
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A UTCTime so many days from now.
fn time(days: i64) -> Vec<u8> {
    let now = jiff::Timestamp::from_second(i64::try_from(UnixTime::now().as_secs()).unwrap() + days * 86_400).unwrap();
    let text = now.to_zoned(jiff::tz::TimeZone::UTC).strftime("%y%m%d%H%M%SZ").to_string();
    tlv(0x17, &[text.as_bytes()])
}

/// A root, an intermediate and a leaf, as they should be.
#[derive(Clone)]
struct World {
    root: Parts,
    middle: Parts,
    leaf: Parts,
}

const ROOT: &[u8] = &[1; 20];
const MIDDLE: &[u8] = &[2; 20];

fn key_id(id: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x80, &[id])])
}

fn world() -> World {
    let (root, middle) = (name(&[(0x0c, b"Form Root")]), name(&[(0x0c, b"Form Intermediate")]));
    let of_ca = |id: &[u8]| {
        vec![
            extension(CONSTRAINTS, true, b"\x30\x03\x01\x01\xff".to_vec()),
            // keyCertSign and cRLSign.
            extension(KEY_USAGE, true, b"\x03\x02\x01\x06".to_vec()),
            extension(SUBJECT_KEY, false, tlv(4, &[id])),
            extension(AUTHORITY_KEY, false, key_id(ROOT)),
        ]
    };
    let of_leaf = vec![
        extension(CONSTRAINTS, true, b"\x30\x00".to_vec()),
        extension(KEY_USAGE, true, b"\x03\x02\x07\x80".to_vec()),
        // serverAuth.
        extension(37, false, b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01".to_vec()),
        extension(AUTHORITY_KEY, false, key_id(MIDDLE)),
        extension(NAMES, false, names(&[])),
    ];
    World {
        root: Parts::new(&root, &root, 1, of_ca(ROOT)),
        middle: Parts::new(&root, &middle, 2, of_ca(MIDDLE)),
        leaf: Parts::new(&middle, &name(&[(0x0c, b"shop")]), 3, of_leaf),
    }
}

/// subjectAltName with the host and others.
fn names(others: &[(u8, &[u8])]) -> Vec<u8> {
    let others = others.iter().map(|(tag, value)| tlv(*tag, &[value])).collect::<Vec<_>>().concat();
    tlv(0x30, &[&tlv(0x82, &[HOST.as_bytes()]), &others])
}

struct Row {
    what: &'static str,
    change: fn(&mut World),
    /// Part of what is said; empty if nothing is.
    words: &'static str,
    by: &'static [Verifier],
}

const fn row(what: &'static str, change: fn(&mut World), words: &'static str, by: &'static [Verifier]) -> Row {
    Row { what, change, words, by }
}

/// The leaf's issuer and the intermediate's subject, which are one name.
fn issuer(world: &mut World, tag: u8, value: &[u8]) {
    world.middle.subject = name(&[(tag, value)]);
    world.leaf.issuer = world.middle.subject.clone();
}

fn rows() -> Vec<Row> {
    vec![
        row("good", |_| {}, "", &[]),
        // Names.
        row("issuer-utf8", |world| issuer(world, 0x0c, b"caf\xe9"), "a UTF8String that is not UTF-8", &[Plain, Go]),
        row(
            "issuer-printable",
            |world| issuer(world, 0x13, b"my_ca"),
            "with '_', which its kind of string (PrintableString)",
            &[Go],
        ),
        row("issuer-star", |world| issuer(world, 0x13, b"*.x & y"), "", &[]),
        row("issuer-teletex", |world| issuer(world, 0x14, b"caf\xe9"), "", &[]),
        row("issuer-bmp", |world| issuer(world, 0x1e, b"\0a"), "", &[]),
        row("issuer-bmp-odd", |world| issuer(world, 0x1e, b"abc"), "a BMPString that is not UTF-16", &[Plain, Go]),
        row("issuer-universal", |world| issuer(world, 0x1c, b"\0\0\0a"), "a UniversalString, which", &[Go]),
        row(
            "issuer-ia5",
            |world| issuer(world, 0x16, b"caf\xe9"),
            "with byte 233, which its kind of string (IA5String)",
            &[Go],
        ),
        row("issuer-visible", |world| issuer(world, 0x1a, b"abc"), "a VisibleString, which", &[Plain, Go]),
        row("issuer-bits", |world| issuer(world, 0x03, b"\0abc"), "no string (tag 3)", &[Go]),
        row("issuer-octets", |world| issuer(world, 0x04, b"abc"), "no string (tag 4)", &[Plain, Go]),
        row("issuer-integer", |world| issuer(world, 0x02, &[5]), "no string (tag 2)", &[Plain, Go]),
        row("subject-utf8", |world| world.leaf.subject = name(&[(0x0c, b"caf\xe9")]), "its subject has", &[Plain, Go]),
        row("subject-at", |world| world.leaf.subject = name(&[(0x13, b"a@b")]), "with '@'", &[Go]),
        row(
            "subject-empty",
            |world| world.leaf.subject = name(&[]),
            "its subject is empty and its subjectAltName is not critical",
            &[Strict, Java],
        ),
        row(
            "subject-empty-critical",
            |world| {
                world.leaf.subject = name(&[]);
                world.leaf.with(extension(NAMES, true, names(&[])));
            },
            "",
            &[],
        ),
        // Numbers and times.
        row("serial-negative", |world| world.leaf.serial = vec![0x85], "a negative serial number", &[Go]),
        row("serial-long-zero", |world| world.leaf.serial = vec![0, 5], "a zero too many", &[Plain, Go]),
        row("serial-zero", |world| world.leaf.serial = vec![0], "", &[]),
        // Names in subjectAltName.
        row("mail", |world| world.leaf.with(extension(NAMES, false, names(&[(0x81, b"a@b")]))), "", &[]),
        row(
            "address-as-text",
            |world| world.leaf.with(extension(NAMES, false, names(&[(0x87, b"192.0.2.7")]))),
            "an iPAddress of 9 bytes, and not 4 or 16: it stands there as text",
            &[Go],
        ),
        row(
            "address-with-mask",
            |world| world.leaf.with(extension(NAMES, false, names(&[(0x87, &[192, 0, 2, 7, 255, 255, 255, 0])]))),
            "an iPAddress of 8 bytes",
            &[Go],
        ),
        row(
            "uri-with-a-space",
            |world| world.leaf.with(extension(NAMES, false, names(&[(0x86, b"https://a b/")]))),
            "a URI that cannot be parsed",
            &[Go],
        ),
        row(
            "uri-brackets",
            |world| world.leaf.with(extension(NAMES, false, names(&[(0x86, b"http://[bad")]))),
            "a URI that cannot be parsed",
            &[Go],
        ),
        row("uri", |world| world.leaf.with(extension(NAMES, false, names(&[(0x86, b"spiffe://a/b?c")]))), "", &[]),
        // The authority key identifier.
        row(
            "authority-key",
            |world| world.leaf.without(AUTHORITY_KEY),
            "it has no authority key identifier",
            &[Strict],
        ),
        row(
            "authority-key-empty",
            |world| world.leaf.with(extension(AUTHORITY_KEY, false, b"\x30\x00".to_vec())),
            "it has no authority key identifier",
            &[Strict],
        ),
        row(
            "authority-key-of-issuer",
            |world| world.middle.without(AUTHORITY_KEY),
            "it has no authority key identifier",
            &[Strict],
        ),
        row("authority-key-of-root", |world| world.root.without(AUTHORITY_KEY), "", &[]),
        row(
            "authority-serial",
            |world| {
                let issuer = tlv(0xa1, &[&tlv(0xa4, &[&world.middle.issuer])]);
                let value = tlv(0x30, &[&tlv(0x80, &[MIDDLE]), &issuer, &tlv(0x82, &[&[9]])]);
                world.leaf.with(extension(AUTHORITY_KEY, false, value));
            },
            "names another certificate, by issuer and serial number",
            &[Plain],
        ),
        row(
            "authority-serial-right",
            |world| {
                let issuer = tlv(0xa1, &[&tlv(0xa4, &[&world.middle.issuer])]);
                let value = tlv(0x30, &[&tlv(0x80, &[MIDDLE]), &issuer, &tlv(0x82, &[&[2]])]);
                world.leaf.with(extension(AUTHORITY_KEY, false, value));
            },
            "",
            &[],
        ),
        // CAs.
        row("subject-key", |world| world.middle.without(SUBJECT_KEY), "a CA without a subject key", &[Strict]),
        row("key-usage", |world| world.middle.without(KEY_USAGE), "a CA without a key usage", &[Strict]),
        row(
            "constraints-not-critical",
            |world| world.middle.with(extension(CONSTRAINTS, false, b"\x30\x03\x01\x01\xff".to_vec())),
            "basicConstraints are not critical",
            &[Strict],
        ),
        row("root-subject-key", |world| world.root.without(SUBJECT_KEY), "a CA without a subject key", &[Strict]),
        row("root-key-usage", |world| world.root.without(KEY_USAGE), "a CA without a key usage", &[Strict]),
        row(
            "root-constraints",
            |world| world.root.without(CONSTRAINTS),
            "The root CN=Form Root in the file of --trust-anchors: it does not say that it is a CA",
            &[Strict, Go, Java],
        ),
        row(
            "root-version-1",
            |world| world.root.extensions.clear(),
            "The root CN=Form Root in the file of --trust-anchors: it is of version 1",
            &[Strict],
        ),
        // The leaf as if it were a CA.
        row(
            "leaf-path-length",
            |world| world.leaf.with(extension(CONSTRAINTS, true, b"\x30\x03\x02\x01\x00".to_vec())),
            "it is no CA and has a path length",
            &[Strict],
        ),
        row(
            "leaf-signs",
            |world| world.leaf.with(extension(KEY_USAGE, true, b"\x03\x02\x02\x84".to_vec())),
            "it is no CA and has the key usage keyCertSign",
            &[Strict],
        ),
        row("leaf-without-constraints", |world| world.leaf.without(CONSTRAINTS), "", &[]),
        // The dates of the root.
        row(
            "root-expired",
            |world| (world.root.not_before, world.root.not_after) = (time(-900), time(-2)),
            "in the file of --trust-anchors expired on",
            &[Plain, Go, GnuTls, Nss],
        ),
        row(
            "root-future",
            |world| (world.root.not_before, world.root.not_after) = (time(2), time(900)),
            "in the file of --trust-anchors is not valid before",
            &[Plain, Go, GnuTls, Nss],
        ),
    ]
}

/// Everything that is said of a chain now, but for what is normal.
fn findings(chain: &str, root: &str) -> Vec<Finding> {
    let (chain, mut findings) = Chain::load(chain.as_bytes(), b"", &anchors(root));
    let chain = chain.unwrap();
    findings.extend(chain.dated(UnixTime::now()).findings);
    findings.extend(chain.covers(&HOST.parse::<Name>().unwrap()).err());
    findings.retain(|finding| !["expires-soon", "intermediate-expires-first"].contains(&finding.code()));
    findings
}

#[test]
fn what_is_said_of_the_form_of_a_certificate_is_what_each_client_does() {
    let directory = tempfile::tempdir().unwrap();
    let [root_key, middle_key, leaf_key] = [(); 3].map(|()| generate(KeyType::EcdsaP256).unwrap());
    let mut folders = Vec::new();
    let mut surprises = Vec::new();
    let rows = rows();
    for row in &rows {
        let mut world = world();
        (row.change)(&mut world);
        let root = world.root.signed(&root_key, &root_key);
        let middle = world.middle.signed(&middle_key, &root_key);
        let leaf = world.leaf.signed(&leaf_key, &middle_key);
        let folder = directory.path().join(row.what);
        fs::create_dir(&folder).unwrap();
        let chain = format!("{leaf}{middle}");
        for (file, text) in [("root.pem", &root), ("rest.pem", &middle), ("leaf.pem", &leaf), ("chain.pem", &chain)] {
            fs::write(folder.join(file), text).unwrap();
        }
        fs::write(folder.join("key.pem"), leaf_key.serialize_pem()).unwrap();
        let findings = findings(&chain, &root);
        let mut by: Vec<Verifier> = findings.iter().flat_map(|finding| finding.refused_by()).copied().collect();
        by.sort_unstable();
        by.dedup();
        let said = findings.iter().map(ToString::to_string).collect::<Vec<_>>();
        if !said
            .iter()
            .all(|text| !row.words.is_empty() && text.contains(row.words) || text.contains("its subject has"))
            || said.is_empty() != row.words.is_empty()
            || by != row.by
        {
            surprises.push(format!("{}: we say {said:?}, by {by:?}", row.what));
        }
        // What nobody but strict clients refuses is no error; no text of a library reaches people.
        let is_error = findings.iter().any(|finding| finding.severity() == Severity::Error);
        assert_eq!(is_error, !row.by.is_empty() && row.by != [Strict], "{}: {said:?}", row.what);
        assert!(said.iter().all(|text| !text.contains("X509Error") && !text.contains("Err(")), "{said:?}");
        folders.push(folder);
    }
    let clients: [(Verifier, Vec<String>); 6] = [
        (Plain, folders.iter().map(|folder| openssl(folder, &[])).collect()),
        (Strict, folders.iter().map(|folder| openssl(folder, &["-x509_strict"])).collect()),
        (Go, go(&folders)),
        (Java, java(directory.path(), &folders)),
        (GnuTls, folders.iter().map(|folder| gnutls(folder)).collect()),
        (Nss, folders.iter().map(|folder| nss(folder)).collect()),
    ];
    for (verifier, answers) in clients {
        assert_eq!(answers.len(), rows.len(), "{verifier:?}: {answers:?}");
        for (row, answer) in rows.iter().zip(answers) {
            // What OpenSSL refuses, it refuses with strict checks as well.
            let claimed = row.by.contains(&verifier) || verifier == Strict && row.by.contains(&Plain);
            if claimed == (answer == "OK") {
                surprises.push(format!("{}: {verifier:?} says {answer:?}, and we say {:?}", row.what, row.by));
            }
        }
    }
    assert!(surprises.is_empty(), "\n{}", surprises.join("\n"));
}

/// Python with the flag that it sets by itself from 3.13 on, in a handshake.
#[test]
fn python_with_strict_checks_refuses_what_is_said_to_be_refused() {
    let directory = tempfile::tempdir().unwrap();
    let [root_key, middle_key, leaf_key] = [(); 3].map(|()| generate(KeyType::EcdsaP256).unwrap());
    let wanted = ["good", "authority-key", "subject-key", "constraints-not-critical", "root-key-usage"];
    for row in rows().iter().filter(|row| wanted.contains(&row.what)) {
        let mut world = world();
        (row.change)(&mut world);
        let root = world.root.signed(&root_key, &root_key);
        let chain = world.leaf.signed(&leaf_key, &middle_key)
            + &world.middle.signed(&middle_key, &root_key)
            + &leaf_key.serialize_pem();
        let (chain_file, root_file) = (directory.path().join("chain.pem"), directory.path().join("root.pem"));
        fs::write(&chain_file, chain).unwrap();
        fs::write(&root_file, root).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/strict.py");
        let output = program("python3").arg(script).arg(HOST).arg(&chain_file).arg(&root_file).output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert_eq!(answer.trim() == "OK", row.by.is_empty(), "{}: {answer}{:?}", row.what, output.stderr);
    }
}

fn openssl(folder: &Path, options: &[&str]) -> String {
    let mut command = program("openssl");
    command.args(["verify", "-no-CApath", "-no-CAstore", "-purpose", "sslserver", "-verify_hostname", HOST]);
    command.args(options).args(["-CAfile", "root.pem", "-untrusted", "rest.pem", "leaf.pem"]).current_dir(folder);
    answer(command.output().unwrap(), |_| true)
}

fn gnutls(folder: &Path) -> String {
    let mut command = program("certtool");
    command.args(["--verify", "--load-ca-certificate", "root.pem", "--infile", "chain.pem"]).current_dir(folder);
    // It also ends well where it does not trust the chain.
    answer(command.output().unwrap(), |text| text.contains("Chain verification output: Verified"))
}

fn nss(folder: &Path) -> String {
    let run = |name: &str, words: &str| program(name).args(words.split(' ')).current_dir(folder).output().unwrap();
    fs::create_dir(folder.join("db")).unwrap();
    assert!(run("certutil", "-N -d db --empty-password").status.success());
    assert!(run("certutil", "-A -d db -n root -t C,, -a -i root.pem").status.success());
    answer(run("vfychain", "-d db -u 1 -pp -a leaf.pem rest.pem"), |text| text.contains("Chain is good"))
}

fn answer(output: std::process::Output, is_good: impl Fn(&str) -> bool) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    match output.status.success() && is_good(&text) {
        true => "OK".to_owned(),
        false => format!("NO {}", text.replace('\n', " ")),
    }
}

fn java(directory: &Path, folders: &[PathBuf]) -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/Verify.java");
    let compiled = program("javac").arg("-d").arg(directory).arg(source).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let mut command = program("java");
    command.arg("-cp").arg(directory).arg("Verify").arg(UnixTime::now().as_secs().to_string());
    lines(command.args(folders).output().unwrap())
}

fn go(folders: &[PathBuf]) -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/verify.go");
    let mut command = program("go");
    command.arg("run").arg(source).arg(HOST).arg(UnixTime::now().as_secs().to_string());
    lines(command.args(folders).output().unwrap())
}

fn lines(output: std::process::Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn an_unreadable_issuer_is_served_and_said_in_words() {
    let mut world = world();
    issuer(&mut world, 0x0c, b"caf\xe9");
    let [root_key, middle_key, leaf_key] = [(); 3].map(|()| generate(KeyType::EcdsaP256).unwrap());
    let root = world.root.signed(&root_key, &root_key);
    let chain = world.leaf.signed(&leaf_key, &middle_key) + &world.middle.signed(&middle_key, &root_key);
    let (chain, findings) = Chain::load(chain.as_bytes(), b"", &anchors(&root));
    let report = check::chain::judge(chain.as_ref(), findings, None, UnixTime::now());
    let table = report.table();
    assert_eq!(report.findings[0].code, "malformed-certificate");
    assert!(table.contains("error malformed-certificate: Certificate 1 in tls.crt (CN=shop): its issuer has a common name that is a UTF8String that is not UTF-8; OpenSSL and Go refuse it"), "{table}");
    assert!(!table.contains("X509Error") && report.certificates[0].issuer == "CN=(unreadable)", "{table}");
}

#[test]
fn certificates_that_cannot_be_read_say_which_part_is_damaged() {
    let [root_key, middle_key, leaf_key] = [(); 3].map(|()| generate(KeyType::EcdsaP256).unwrap());
    let broken = |change: fn(&mut World)| {
        let mut world = world();
        change(&mut world);
        let leaf = world.leaf.signed(&leaf_key, &middle_key);
        let root = world.root.signed(&root_key, &root_key);
        Chain::load(leaf.as_bytes(), b"", &anchors(&root)).1[0].to_string()
    };
    type Change = fn(&mut World);
    let rows: [(Change, &str); 5] = [
        (|world| world.leaf.issuer = b"\x30\x03\x31\x09\x30".to_vec(), "the name of its issuer is damaged"),
        (|world| world.leaf.subject = b"\x30\x02\x31\x05".to_vec(), "its subject is damaged"),
        (|world| world.leaf.serial.clear(), "its serial number is empty"),
        (|world| world.leaf.not_after = b"\x17\x00".to_vec(), ""),
        (|world| world.leaf.with(extension(NAMES, false, b"\x30\x05".to_vec())), "its extension 2.5.29.17 is damaged"),
    ];
    for (change, words) in rows {
        let text = broken(change);
        assert!(
            text.starts_with("Block 1 in tls.crt (at byte 0) cannot be parsed: ") && text.contains(words),
            "{text}"
        );
        assert!(!["Error", "Err(", "{", "nom"].iter().any(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn keys_that_no_client_takes_and_slow_ones_are_told_from_the_certificate_alone() {
    let openssl = OpenSsl::new();
    let found = |make: &str| {
        openssl.run(make);
        openssl.run("req -x509 -new -key k -subj /CN=shop -days 5 -addext subjectAltName=DNS:shop.example -addext basicConstraints=critical,CA:FALSE -out c");
        let certificate = openssl.read("c");
        let (chain, findings) = Chain::load(certificate.as_bytes(), b"", &anchors(&certificate));
        let key = chain.unwrap().outline().path[0].key.to_string();
        let odd = findings
            .iter()
            .find(|finding| finding.code() != "trusted-self-signed")
            .map(|finding| (finding.code(), finding.severity(), finding.to_string()));
        (key, odd)
    };
    openssl.run("dsaparam -out dsa.params 2048");
    for (make, key, words) in [
        ("genpkey -paramfile dsa.params -out k", "dsa", "a DSA key"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-192 -out k", "ecdsa-secp192r1", "on the curve secp192r1"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-224 -out k", "ecdsa-secp224r1", "on the curve secp224r1"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out k", "ecdsa-secp256k1", "secp256k1"),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP256r1 -out k",
            "ecdsa-brainpoolP256r1",
            "brainpool",
        ),
    ] {
        let (label, found) = found(make);
        let (code, severity, text) = found.unwrap();
        assert_eq!((&*label, code, severity), (key, "unsupported-leaf-key", Severity::Error), "{text}");
        assert!(text.contains(words), "{text}");
    }
    let (label, slow) = found("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4104 -out k");
    let (code, severity, text) = slow.unwrap();
    assert_eq!((&*label, code, severity), ("rsa-4104", "slow-key", Severity::Warning), "{text}");
    for make in [
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out k",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out k",
    ] {
        assert_eq!(found(make).1, None, "{make}");
    }
}

#[test]
fn names_that_match_no_host_are_listed_and_other_forms_of_an_address_are_explained() {
    use rcgen::SanType;
    let root = root("Root");
    let judged = |dns: &[&str], addresses: &[&str], asked: &str| {
        let leaf = leaf_of(KeyType::EcdsaP256, &root, |params| {
            let dns = dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
            let addresses = addresses.iter().map(|address| SanType::IpAddress(address.parse().unwrap()));
            params.subject_alt_names = dns.chain(addresses).collect();
            valid(params, -10, 80);
        });
        let (chain, findings) = Chain::load(leaf.pem.as_bytes(), b"", &anchors(&root.pem()));
        let told = findings.iter().find(|finding| finding.code() == "useless-name").map(ToString::to_string);
        let covers = chain.unwrap().covers(&asked.parse::<Name>().unwrap()).err().map(|finding| finding.to_string());
        (told, covers)
    };
    for name in [
        "192.0.2.7",
        "2001:DB8:0:0:0:0:0:7",
        "[2001:db8::7]",
        "https://shop.example/",
        "shop.example:443",
        "shop..example",
        ".shop.example",
        "w*.shop.example",
        "a b.example",
    ] {
        let told = judged(&["shop.example", name], &[], "shop.example").0;
        assert!(told.is_some_and(|told| told.contains(&name.to_lowercase())), "{name}");
    }
    for name in ["*.shop.example", "a_b.example", "xn--bcher-kva.example", "1.example"] {
        assert_eq!(judged(&["shop.example", name], &[], "shop.example").0, None, "{name}");
    }
    // One address in two forms: OpenSSL compares the bytes, and Go does not.
    assert_eq!(judged(&[], &["192.0.2.7"], "192.0.2.7").1, None);
    let told = judged(&[], &["::ffff:192.0.2.7"], "192.0.2.7").1.unwrap();
    assert!(told.contains("as IPv4 within IPv6, and OpenSSL takes that for another address"), "{told}");
    let told = judged(&["2001:db8::7"], &[], "2001:db8::7").1.unwrap();
    assert!(told.contains("the address must be an iPAddress name"), "{told}");
    let told = judged(&["2001:DB8:0:0:0:0:0:7"], &[], "2001:db8::7").1.unwrap();
    assert!(told.contains("the address must be an iPAddress name"), "in whatever form it is written: {told}");
}
