//! The presets, as an outside scanner sees them: sslyze from PyPI, which knows nothing of this project or of rustls.
//!
//! `build.txt, requirements.txt ──pip──▶ environment, cached by its digest ──sslyze──▶ versions, suites, curves, verdict`
//!
//! The scanner offers each version, suite and curve by itself, so what it lists is all there is, as far as its OpenSSL
//! knows it. X25519MLKEM768 is newer than that; rustls clients ask for it and for its relatives.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use handfast::demo::pki::{Authority, KeyType};
use rustls::crypto::aws_lc_rs::kx_group::{MLKEM768, SECP256R1MLKEM768, X25519MLKEM768};
use rustls::version::TLS13;
use rustls::{AlertDescription, NamedGroup};
use serde_json::Value;

use crate::binary::{Server, host, issue, service};
use crate::handshake::Client;
use crate::policies::{meet, with_groups};
use crate::python::{Requirements, environment};

const TLS13_SUITES: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
const ECDSA_SUITES: [&str; 3] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];
const RSA_SUITES: [&str; 3] = [
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];
/// Mozilla's guideline 6.0 names these, and X25519MLKEM768 before them.
const CURVES: [&str; 3] = ["X25519", "secp256r1", "secp384r1"];

/// One host to scan.
struct Row {
    name: &'static str,
    annotation: &'static str,
    key: KeyType,
    tls12: &'static [&'static str],
    /// The guideline that sslyze compares with: 5.7, which it has packaged.
    guideline: &'static str,
    /// What sslyze objects to, by its own keys. Each is explained where it stands.
    objections: &'static [&'static str],
}

const ROWS: [Row; 6] = [
    Row {
        name: "modern-ecdsa.test",
        annotation: "handfast.dev/tls-policy: modern",
        key: KeyType::EcdsaP256,
        tls12: &[],
        guideline: "modern",
        objections: &[],
    },
    Row {
        name: "modern-rsa.test",
        annotation: "handfast.dev/tls-policy: modern",
        key: KeyType::Rsa2048,
        tls12: &[],
        guideline: "modern",
        // The certificate is what the operator gives: "modern" wants ECDSA keys.
        objections: &["certificate_types"],
    },
    Row {
        name: "intermediate-ecdsa.test",
        annotation: "handfast.dev/tls-policy: intermediate",
        key: KeyType::EcdsaP256,
        tls12: &ECDSA_SUITES,
        guideline: "intermediate",
        objections: &[],
    },
    Row {
        name: "intermediate-rsa.test",
        annotation: "handfast.dev/tls-policy: intermediate",
        key: KeyType::Rsa2048,
        tls12: &RSA_SUITES,
        guideline: "intermediate",
        objections: &[],
    },
    Row {
        name: "default-ecdsa.test",
        annotation: "",
        key: KeyType::EcdsaP256,
        tls12: &ECDSA_SUITES,
        guideline: "intermediate",
        objections: &[],
    },
    Row {
        name: "default-rsa.test",
        annotation: "",
        key: KeyType::Rsa2048,
        tls12: &RSA_SUITES,
        guideline: "intermediate",
        objections: &[],
    },
];

#[test]
fn an_outside_scanner_finds_exactly_what_the_presets_promise() {
    let scanner = Scanner::install();
    let manifests = |authority: &Authority| {
        let mut files = vec![service("echo", &["127.0.0.1:9".parse().unwrap()])];
        for preset in ["modern", "intermediate"] {
            let text = format!(
                "apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: {preset}}}\nspec: {{preset: {preset}}}\n"
            );
            files.push((format!("policy-{preset}.yaml"), text));
        }
        for row in &ROWS {
            let issued = issue(authority, &[row.name], row.key);
            files.push(host(row.name.trim_end_matches(".test"), row.name, Some(&issued), "echo", row.annotation));
        }
        files
    };
    let server = Server::start(&manifests, &[]);
    for row in &ROWS {
        let scan = scanner.scan(&server, row);
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        for version in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
            assert_eq!(scan.suites(version), all(&[]), "{} {version}", row.name);
        }
        assert_eq!(scan.suites("tls_1_2"), all(row.tls12), "{}", row.name);
        assert_eq!(scan.suites("tls_1_3"), all(&TLS13_SUITES), "{}", row.name);
        let curves = &scan.result["elliptic_curves"]["result"]["supported_curves"];
        let curves = curves.as_array().unwrap().iter().map(|curve| curve["name"].as_str().unwrap().to_owned());
        assert_eq!(curves.collect::<BTreeSet<_>>(), all(&CURVES), "{}", row.name);
        let is = |command: &str, field: &str| scan.result[command]["result"][field].as_bool().unwrap();
        assert!(!is("tls_1_3_early_data", "supports_early_data"), "{}", row.name);
        assert!(!is("tls_compression", "supports_compression"), "{}", row.name);
        assert!(!is("heartbleed", "is_vulnerable_to_heartbleed"), "{}", row.name);
        assert!(!is("openssl_ccs_injection", "is_vulnerable_to_ccs_injection"), "{}", row.name);
        if !row.tls12.is_empty() {
            assert!(is("tls_fallback_scsv", "supports_fallback_scsv"), "{}", row.name);
            assert!(is("tls_extended_master_secret", "supports_ems_extension"), "{}", row.name);
            assert!(is("session_renegotiation", "supports_secure_renegotiation"), "{}", row.name);
        }
        assert_eq!(scan.objections(), all(row.objections), "{}: {}", row.name, scan.text);

        // What guideline 6.0 adds to 5.7, and the groups beside it that rustls could serve and the guideline has not.
        let with = |group| {
            let client = Client { versions: vec![&TLS13], ..with_groups(&[group]) };
            meet(&server, row.name, client).map(|met| met.group)
        };
        assert_eq!(with(X25519MLKEM768), Ok(NamedGroup::X25519MLKEM768), "{}", row.name);
        for group in [MLKEM768, SECP256R1MLKEM768] {
            assert_eq!(with(group), Err(AlertDescription::HandshakeFailure), "{} {:?}", row.name, group.name());
        }
    }
}

/// The suites that 5.7 has and 6.0 has not are those that rustls has not either: sslyze does not ask for them to be
/// there, so its verdict holds for both guidelines.
#[test]
fn the_guideline_that_the_scanner_has_packaged_differs_from_ours_in_what_is_named_here() {
    let packaged = Scanner::install().packaged_guideline();
    assert_eq!(packaged["version"], 5.7);
    let set = |value: &Value| {
        value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let ours = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let difference = |theirs: &BTreeSet<String>, ours: &BTreeSet<String>| {
        let list =
            |one: &BTreeSet<String>, other: &BTreeSet<String>| one.difference(other).cloned().collect::<Vec<_>>();
        (list(theirs, ours), list(ours, theirs))
    };
    let none = Vec::<String>::new;
    for preset in ["modern", "intermediate"] {
        let guideline = &packaged["configurations"][preset];
        assert_eq!(difference(&set(&guideline["ciphersuites"]), &ours(&TLS13_SUITES)), (none(), none()));
        let curves = ours(&["X25519MLKEM768", "X25519", "prime256v1", "secp384r1"]);
        assert_eq!(difference(&set(&guideline["tls_curves"]), &curves), (none(), vec!["X25519MLKEM768".to_owned()]));
    }
    let intermediate = &packaged["configurations"]["intermediate"];
    assert_eq!(set(&intermediate["tls_versions"]), ours(&["TLSv1.2", "TLSv1.3"]));
    assert_eq!(set(&packaged["configurations"]["modern"]["tls_versions"]), ours(&["TLSv1.3"]));
    let finite_field = ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"];
    let finite_field = finite_field.map(|suite| format!("TLS_DHE_RSA_WITH_{suite}")).to_vec();
    let suites = ours(&[ECDSA_SUITES, RSA_SUITES].concat());
    assert_eq!(difference(&set(&intermediate["ciphers"]["iana"]), &suites), (finite_field, none()));
}

/// What sslyze found out about one host.
struct Scan {
    result: Value,
    text: String,
    is_compliant: bool,
}

impl Scan {
    /// The suites of one version that the server accepts.
    fn suites(&self, version: &str) -> BTreeSet<String> {
        let attempt = &self.result[format!("{version}_cipher_suites")];
        assert_eq!(attempt["status"], "COMPLETED", "{version}: {attempt}");
        let accepted = attempt["result"]["accepted_cipher_suites"].as_array().unwrap();
        accepted.iter().map(|one| one["cipher_suite"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// What it objects to in the comparison with the guideline.
    fn objections(&self) -> BTreeSet<String> {
        let verdict = self.text.split_once("COMPLIANCE AGAINST TLS CONFIGURATION").unwrap().1;
        assert_eq!(verdict.contains(": OK - Compliant."), self.is_compliant, "{verdict}");
        let lines = verdict.lines().filter_map(|line| line.trim().strip_prefix("* "));
        lines.map(|line| line.split_once(':').unwrap().0.to_owned()).collect()
    }
}

/// sslyze, in a Python environment of its own.
struct Scanner {
    python: PathBuf,
}

impl Scanner {
    /// Wheels, and of sslyze, which has none, the source, built with nothing but what build.txt pins.
    fn install() -> Self {
        let lists = [
            Requirements { file: "scanner/build.txt", built: None },
            Requirements { file: "scanner/requirements.txt", built: Some("sslyze") },
        ];
        Self { python: environment("sslyze", &lists) }
    }

    fn scan(&self, server: &Server, row: &Row) -> Scan {
        let file = server.directory.path().join(format!("{}.json.out", row.name));
        let output = Command::new(&self.python)
            .args(["-m", "sslyze", "--sni", row.name, "--mozilla_config", row.guideline, "--early_data"])
            .arg("--certinfo_ca_file")
            .arg(server.ca())
            .arg("--json_out")
            .arg(&file)
            .arg(server.https.to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        // Certificates are in there with numbers of 2,048 bits, and what matters of them is in the verdict.
        let script = "import json, sys; scan = json.load(open(sys.argv[1]))['server_scan_results'][0]; \
                      scan['scan_result'] and scan['scan_result'].pop('certificate_info'); print(json.dumps(scan))";
        let mut scan =
            self.python(script, &[file.as_os_str()]).unwrap_or_else(|| panic!("{}: {text}{error}", row.name));
        assert_eq!(scan["scan_status"], "COMPLETED", "{}: {text}{error}", row.name);
        Scan { result: scan["scan_result"].take(), text, is_compliant: output.status.success() }
    }

    /// Mozilla's guideline, as it comes with sslyze.
    fn packaged_guideline(&self) -> Value {
        let script = "import pathlib, sslyze; folder = pathlib.Path(sslyze.__file__).parent / 'mozilla_tls_profile'; \
                      print(*[file.read_text() for file in folder.glob('*.json')])";
        self.python(script, &[]).unwrap()
    }

    /// What a script prints.
    fn python(&self, script: &str, args: &[&OsStr]) -> Option<Value> {
        let output = Command::new(&self.python).args(["-c", script]).args(args).stdin(Stdio::null()).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }
}
