//! The hosts of the matrix, each with one thing about it, and the files that clients are given.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use handfast::demo::pki::{Issued, KeyType, generate};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SerialNumber,
};
use tempfile::TempDir;

use crate::backend::Backend;
use crate::binary::{Server, host, program, service, wait_until};
use crate::client_auth::{client_ca, identity, identity_with};
use crate::handshake::now;
use crate::pki::{Ca, ca_params, crl, named, valid_around};

/// The serial number of certificates that are revoked: `revoked.test`'s and `client-revoked.pem`.
const REVOKED: u64 = 0x6606_0606;

/// Servers of one set of hosts, and what their clients trust.
pub struct World {
    manifests: Vec<(String, String)>,
    /// `ca.pem`: what clients trust; `strangers.pem`: another root; `revoked.crl`: what `revoked.test` is on;
    /// `client-*.pem` and `client-*.key`: certificates of clients; `foreign.session`: a session with another server that
    /// takes early data, as much as `early.txt` has.
    pub files: TempDir,
    /// Behind `tunnel.test`, which has no TLS.
    _backend: Backend,
}

impl World {
    /// Makes all keys.
    pub fn new() -> Self {
        let root = client_ca("Servers");
        let intermediate = intermediate("Servers Intermediate", &root);
        let clients = client_ca("Clients");
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
        write("ca.pem", &root.pem());
        write("strangers.pem", &client_ca("Strangers").pem());
        write("revoked.crl", &crl(&intermediate, now(), -1..10, &[REVOKED]));
        for (name, text) in client_certificates(&clients) {
            write(&name, &text);
        }
        write("early.txt", &"early ".repeat(5_000));
        foreign_session(files.path(), &issue(&root, &intermediate, "good.test", KeyType::EcdsaP256, |_| {}));
        let backend = Backend::start("tunnel");
        let mut manifests = manifests(&root, &intermediate, &clients);
        manifests.push(service("tunnel", &[backend.address]));
        manifests.push(host("tunnel", "tunnel.test", None, "tunnel", ""));
        Self { manifests, files, _backend: backend }
    }

    /// A server of all hosts.
    pub fn serve(&self, args: &[&str]) -> Server {
        Server::start(&|_| self.manifests.clone(), args)
    }

    pub fn folder(&self) -> &Path {
        self.files.path()
    }
}

/// What clients show, good and bad.
fn client_certificates(clients: &Ca) -> BTreeMap<String, String> {
    let days = |from, to| identity_with(clients, |params| valid_around(params, now(), from, to));
    let purpose = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let revoked = |params: &mut CertificateParams| params.serial_number = Some(SerialNumber::from(REVOKED));
    let below = intermediate("Clients Intermediate", clients);
    let mut long = identity(&below);
    long.chain += &below.pem();
    let certificates = [
        ("robot", identity(clients)),
        ("revoked", identity_with(clients, revoked)),
        ("below", long),
        ("expired", days(-10, -1)),
        ("future", days(2, 10)),
        ("stranger", identity(&client_ca("Strange clients"))),
        ("namesake", identity(&client_ca("Clients"))),
        ("purpose", identity_with(clients, purpose)),
        ("ca", identity_with(clients, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
    ];
    let files = certificates.map(|(name, identity)| {
        [(format!("client-{name}.pem"), identity.chain), (format!("client-{name}.key"), identity.key)]
    });
    files.into_iter().flatten().collect()
}

fn intermediate(name: &str, root: &Ca) -> Ca {
    let mut params = ca_params(name);
    valid_around(&mut params, now(), -100, 100);
    Ca::signed_by(params, KeyPair::generate().unwrap(), root).unwrap()
}

/// A session of OpenSSL's own server, which allows early data.
fn foreign_session(folder: &Path, issued: &Issued) {
    std::fs::write(folder.join("foreign.pem"), issued.leaf.clone() + &issued.key).unwrap();
    let mut server = program("openssl");
    server.args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-tls1_3", "-max_early_data", "100000"]);
    server.args(["-early_data", "-cert", "foreign.pem"]).current_dir(folder);
    let mut server = server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned())).unwrap();
    let mut client = program("openssl");
    client.args(["s_client", "-connect", &address, "-servername", "good.test", "-sess_out", "foreign.session"]);
    client.stderr(Stdio::null());
    let mut client = client.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // The ticket comes behind the handshake, and is written to the file when it comes.
    wait_until("a session", || folder.join("foreign.session").metadata().is_ok_and(|file| file.len() > 0));
    for process in [&mut client, &mut server] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

/// A certificate for one name, good but for the change.
fn issue(root: &Ca, issuer: &Ca, name: &str, key: KeyType, change: impl FnOnce(&mut CertificateParams)) -> Issued {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid_around(&mut params, now(), -5, 30);
    change(&mut params);
    let key = generate(key).unwrap();
    let leaf = params.signed_by(&key, issuer).unwrap().pem();
    Issued { leaf, key: key.serialize_pem(), intermediate: issuer.pem(), root: root.pem() }
}

fn manifests(root: &Ca, intermediate: &Ca, clients: &Ca) -> Vec<(String, String)> {
    let p256 = KeyType::EcdsaP256;
    let good = |name: &str, key| issue(root, intermediate, name, key, |_| {});
    let bad = |name: &str, change: &dyn Fn(&mut CertificateParams)| {
        issue(root, intermediate, name, p256, |params| change(params))
    };
    let mut files = vec![service("echo", &["127.0.0.1:9".parse().unwrap()])];
    let mut serve = |name: &str, issued: Option<&Issued>, annotations: &str| {
        files.push(host(name.trim_end_matches(".test"), name, issued, "echo", annotations));
    };

    // Certificates.
    serve("good.test", Some(&good("good.test", p256)), "");
    serve("rsa.test", Some(&good("rsa.test", KeyType::Rsa2048)), "");
    serve("p384.test", Some(&good("p384.test", KeyType::EcdsaP384)), "");
    serve("misnamed.test", Some(&good("other.test", p256)), "");
    serve("expired.test", Some(&bad("expired.test", &|params| valid_around(params, now(), -30, -2))), "");
    let purpose = bad("purpose.test", &|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    serve("purpose.test", Some(&purpose), "");
    let revoked = bad("revoked.test", &|params| params.serial_number = Some(SerialNumber::from(REVOKED)));
    serve("revoked.test", Some(&revoked), "");
    let short = Issued { intermediate: String::new(), ..good("short.test", p256) };
    serve("short.test", Some(&short), "");
    let mismatch = Issued { key: good("refused.test", p256).key, ..good("refused.test", p256) };
    serve("refused.test", Some(&mismatch), "");
    serve("plain.test", None, "");

    // Policies.
    let policies = [
        ("modern", "{preset: modern}"),
        ("old", "{maxVersion: TLSv1.2}"),
        ("groups", "{groups: [secp384r1]}"),
        ("suites", "{cipherSuites: [TLS_AES_256_GCM_SHA384, ECDHE-ECDSA-AES256-GCM-SHA384]}"),
        ("h2", "{alpn: [h2]}"),
        ("mtls", "{clientAuth: {mode: required, caSecret: clients}}"),
        ("crl", "{clientAuth: {mode: required, caSecret: clients-and-crl}}"),
    ];
    for (name, _) in policies {
        let host = format!("{name}.test");
        serve(&host, Some(&good(&host, p256)), &format!("handfast.dev/tls-policy: {name}"));
    }
    for (name, spec) in policies {
        let text =
            format!("apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        files.push((format!("policy-{name}.yaml"), text));
    }
    let lists = crl(clients, now(), -1..10, &[REVOKED]);
    for (name, lists) in [("clients", None), ("clients-and-crl", Some(lists))] {
        let mut secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"ca.crt": clients.pem()},
        });
        if let Some(lists) = lists {
            secret["stringData"]["ca.crl"] = lists.into();
        }
        files.push((format!("{name}.yaml"), secret.to_string()));
    }
    files
}
