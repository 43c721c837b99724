//! Faulty chains for `tests/cases`, by name: `$CRT(name)`, `$KEYOF(name)` and `$CA(name)` in a manifest.
//!
//! All of them lead to one root, which the cases trust, unless the fault is that they do not.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};

use crate::pki::{
    Ca, Leaf, OpenSsl, ca, ca_params, ca_with, cross_signed, issuer_url, leaf_of, leaf_params, must_staple, root,
    sct_list, valid, withdrawn,
};
use handfast::demo::pki::{KeyType, generate};

/// What a Secret holds.
#[derive(Clone, Default)]
pub(crate) struct Fault {
    pub(crate) tls_crt: String,
    pub(crate) tls_key: String,
    pub(crate) ca_crt: String,
}

static ROOT: LazyLock<Ca> = LazyLock::new(|| root("Fault Root"));

/// The root that is trusted.
pub(crate) fn trusted() -> String {
    ROOT.pem()
}

/// The Secret of a name; the same one for each use.
pub(crate) fn fault(name: &str) -> Fault {
    static MADE: LazyLock<Mutex<HashMap<String, Fault>>> = LazyLock::new(Mutex::default);
    MADE.lock().unwrap().entry(name.to_owned()).or_insert_with(|| make(name)).clone()
}

const HOST: &str = "shop.example.com";

fn make(name: &str) -> Fault {
    let intermediate = ca("Fault Intermediate", &ROOT);
    let good = || issued(&intermediate, |_| {});
    let with_leaf = |change: fn(&mut CertificateParams)| {
        let leaf = issued(&intermediate, change);
        chain(&[&leaf.pem, &intermediate.pem()], &leaf)
    };
    let with_issuer = |change: fn(&mut CertificateParams)| {
        let issuer = ca_with("Fault Issuer", &ROOT, change);
        let leaf = issued(&issuer, |_| {});
        chain(&[&leaf.pem, &issuer.pem()], &leaf)
    };
    let with_key = |command: &str| {
        let openssl = OpenSsl::new();
        openssl.run(command);
        let leaf = Leaf { key: openssl.read("k"), ..good() };
        chain(&[&leaf.pem, &intermediate.pem()], &leaf)
    };
    let leaf = good();
    match name {
        "ca-crt" | "ca-crt-unusable" => {
            let own = root("Private Root");
            let issuer = ca("Private Intermediate", &own);
            let leaf = issued(&issuer, |_| {});
            let ca_crt = if name == "ca-crt" { own.pem() } else { "the CA is on the intranet".to_owned() };
            Fault { ca_crt, ..chain(&[&leaf.pem, &issuer.pem()], &leaf) }
        }
        "client-auth" => with_leaf(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        "common-name" => with_leaf(|params| params.subject_alt_names.clear()),
        "critical-extension" => with_leaf(|params| {
            let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            unknown.set_criticality(true);
            params.custom_extensions.push(unknown);
        }),
        "cross-sign" => {
            let crossed = cross_signed("Fault Root", ROOT.key(), &root("Old Root"), |_| {});
            chain(&[&leaf.pem, &intermediate.pem(), &crossed.pem()], &leaf)
        }
        "cross-sign-expired" => {
            let crossed = cross_signed("Fault Root", ROOT.key(), &root("Old Root"), |params| valid(params, -900, -1));
            chain(&[&leaf.pem, &intermediate.pem(), &crossed.pem()], &leaf)
        }
        "duplicate" => chain(&[&leaf.pem, &leaf.pem, &intermediate.pem()], &leaf),
        "encipherment" => with_leaf(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
        "expired-root" => {
            let mut params = ca_params("Private Root");
            valid(&mut params, -1825, -2);
            let own = Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let issuer = ca("Private Intermediate", &own);
            let leaf = issued(&issuer, |_| {});
            Fault { ca_crt: own.pem(), ..chain(&[&leaf.pem, &issuer.pem()], &leaf) }
        }
        "expires-soon" => with_leaf(|params| valid(params, -80, 5)),
        "issuer-expired" => with_issuer(|params| valid(params, -80, -2)),
        "issuer-expires-first" => with_issuer(|params| valid(params, -20, 40)),
        "issuer-not-ca" => with_issuer(|params| params.is_ca = IsCa::ExplicitNoCa),
        "key-encrypted" => with_key("genpkey -algorithm ED25519 -aes128 -pass pass:secret -out k"),
        "key-ed25519" => {
            let leaf = issued_for(KeyType::Ed25519, &intermediate, |_| {});
            chain(&[&leaf.pem, &intermediate.pem()], &leaf)
        }
        "key-in-crt" => chain(&[&leaf.key, &leaf.pem, &intermediate.pem()], &leaf),
        "key-rsa-1024" => with_key("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out k"),
        "key-secp256k1" => with_key("ecparam -genkey -noout -name secp256k1 -out k"),
        "key-several" => {
            let mut several = chain(&[&leaf.pem, &intermediate.pem()], &leaf);
            several.tls_key += &good().key;
            several
        }
        "key-unparsable" => {
            let mut damaged = chain(&[&leaf.pem, &intermediate.pem()], &leaf);
            damaged.tls_key = damaged.tls_key.replace("-----END", "----END");
            damaged
        }
        "large" | "over-window" => {
            let bytes = if name == "large" { 5_000 } else { 20_000 };
            let issuer = ca_with("Fault Issuer", &ROOT, |params| {
                let comment = CustomExtension::from_oid_content(&[2, 16, 840, 1, 113730, 1, 99], vec![0; bytes]);
                params.custom_extensions.push(comment);
            });
            let leaf = issued(&issuer, |_| {});
            chain(&[&leaf.pem, &issuer.pem()], &leaf)
        }
        "leaf-is-ca" => with_leaf(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        "long-validity" => with_leaf(|params| valid(params, -10, 2000)),
        "many" => {
            // Much at once: the wrong order, a stranger, the root, and a demanding leaf of another name.
            let leaf = issued(&intermediate, |params| {
                must_staple(params);
                params.subject_alt_names = vec![SanType::DnsName("*.example.com".try_into().unwrap())];
                valid(params, -80, 5);
            });
            let stranger = root("Stranger");
            chain(&[&intermediate.pem(), &leaf.pem, &stranger.pem(), &ROOT.pem()], &leaf)
        }
        "missing-intermediate" => {
            let leaf = issued(&intermediate, |params| {
                sct_list(params);
                issuer_url(params, "http://ca.example/intermediate.cer");
            });
            chain(&[&leaf.pem], &leaf)
        }
        "must-staple" => with_leaf(must_staple),
        "name-constraint" => with_issuer(|params| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName("other.example".into())];
            params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        }),
        "not-the-issuer" => chain(&[&leaf.pem, &ca("Fault Intermediate", &ROOT).pem()], &leaf),
        "out-of-order" => {
            let lower = ca("Fault Lower Intermediate", &intermediate);
            let leaf = issued(&lower, |_| {});
            chain(&[&leaf.pem, &intermediate.pem(), &lower.pem()], &leaf)
        }
        "path-length" => {
            let upper = ca_with("Limited", &ROOT, |params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            });
            let lower = ca("Below", &upper);
            let leaf = issued(&lower, |_| {});
            chain(&[&leaf.pem, &lower.pem(), &upper.pem()], &leaf)
        }
        "self-signed" | "self-signed-trusted" => {
            let mut params = leaf_params();
            params.subject_alt_names = vec![SanType::DnsName(HOST.try_into().unwrap())];
            let key = KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            let leaf = Leaf { pem, key: key.serialize_pem() };
            let ca_crt = if name == "self-signed" { String::new() } else { leaf.pem.clone() };
            Fault { ca_crt, ..chain(&[&leaf.pem], &leaf) }
        }
        "temporary" => {
            let leaf =
                issued(&root("cert-manager.local"), |params| params.distinguished_name = DistinguishedName::new());
            chain(&[&leaf.pem], &leaf)
        }
        "temporary-kept" => {
            let authority = root("cert-manager.local");
            let leaf = issued(&authority, |_| {});
            Fault { ca_crt: authority.pem(), ..chain(&[&leaf.pem], &leaf) }
        }
        "temporary-more" => {
            let leaf = issued(&root("cert-manager.local"), |params| {
                params.subject_alt_names.push(SanType::DnsName("new.example.com".try_into().unwrap()));
            });
            chain(&[&leaf.pem], &leaf)
        }
        "unanchored" => chain(&[&leaf.pem], &leaf),
        "unparsable" => {
            let damaged = intermediate.pem().replacen("MII", "!!!", 1);
            chain(&[&damaged, &leaf.pem, &intermediate.pem()], &leaf)
        }
        "unsupported-signature" => {
            let mut params = ca_params("Fault Issuer");
            valid(&mut params, -80, 800);
            let key = generate(KeyType::Rsa2048).unwrap();
            let issuer = Ca::signed_by(params, key, &*ROOT).unwrap();
            signed_by_openssl(&issuer, "-md sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:10")
        }
        "untrusted-root" => {
            let own = root("Private Root");
            let issuer = ca("Private Intermediate", &own);
            let leaf = issued(&issuer, |_| {});
            Fault { ca_crt: root("Another Root").pem(), ..chain(&[&leaf.pem, &issuer.pem(), &own.pem()], &leaf) }
        }
        "unrelated" => chain(&[&leaf.pem, &root("Stranger").pem(), &intermediate.pem()], &leaf),
        "withdrawn-root" => {
            let issuer = ca("Public Intermediate", &withdrawn());
            let leaf = issued(&issuer, sct_list);
            chain(&[&leaf.pem, &issuer.pem()], &leaf)
        }
        "validity-over-limit" => with_leaf(|params| {
            sct_list(params);
            valid(params, -10, 600);
        }),
        "weak-signature" => signed_by_openssl(&intermediate, "-md sha1"),
        other => panic!("no fault {other:?}"),
    }
}

fn issued(issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
    issued_for(KeyType::EcdsaP256, issuer, change)
}

fn issued_for(key: KeyType, issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
    leaf_of(key, issuer, |params| {
        params.subject_alt_names = vec![SanType::DnsName(HOST.try_into().unwrap())];
        params.distinguished_name = crate::pki::named(HOST);
        change(params);
    })
}

/// A leaf with a signature that only OpenSSL makes.
fn signed_by_openssl(issuer: &Ca, sign: &str) -> Fault {
    let openssl = OpenSsl::new();
    let database = "database = index.txt\nnew_certs_dir = .\nrand_serial = yes\npolicy = any\nx509_extensions = leaf\n";
    let extensions = format!(
        "subjectAltName = DNS:{HOST}\nextendedKeyUsage = serverAuth\nkeyUsage = digitalSignature\nauthorityKeyIdentifier = keyid\n"
    );
    let files = [
        ("issuer.pem", issuer.pem()),
        ("issuer.key", issuer.key().serialize_pem()),
        ("index.txt", String::new()),
        (
            "ca.cnf",
            format!("[ca]\ndefault_ca = all\n[all]\n{database}[any]\ncommonName = supplied\n[leaf]\n{extensions}"),
        ),
    ];
    for (name, text) in files {
        std::fs::write(openssl.path(name), text).unwrap();
    }
    openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k");
    openssl.run(&format!("req -new -key k -subj /CN={HOST} -out leaf.csr"));
    // Days around the clock of the cases.
    openssl.run(&format!(
        "ca -batch -notext -config ca.cnf -cert issuer.pem -keyfile issuer.key -in leaf.csr -out leaf.pem \
         -startdate 20251220000000Z -enddate 20260320000000Z {sign}"
    ));
    let leaf = Leaf { pem: openssl.read("leaf.pem"), key: openssl.read("k") };
    chain(&[&leaf.pem, &issuer.pem()], &leaf)
}

fn chain(parts: &[&str], leaf: &Leaf) -> Fault {
    Fault { tls_crt: parts.concat(), tls_key: leaf.key.clone(), ca_crt: String::new() }
}
