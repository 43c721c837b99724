//! What the demo serves: three healthy hosts, and two with a broken certificate.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use rustls::pki_types::UnixTime;

use super::pki::{Authority, Days, KeyType};

/// One host of the demo.
pub(super) struct Host {
    /// Name of its Ingress, Secret and file.
    pub(super) name: &'static str,
    /// Host of its Ingress.
    pub(super) host: &'static str,
    /// What is special about it.
    pub(super) note: &'static str,
    key: KeyType,
    days: Days,
    /// Whether its key belongs to another certificate.
    wrong_key: bool,
}

/// All hosts. Names below `localhost` lead to this machine without any configuration (RFC 6761 section 6.3).
pub(super) const HOSTS: [Host; 5] = [
    Host {
        name: "ecdsa",
        host: "ecdsa.localhost",
        note: "P-256 certificate",
        key: KeyType::EcdsaP256,
        days: -1..90,
        wrong_key: false,
    },
    Host {
        name: "rsa",
        host: "rsa.localhost",
        note: "RSA certificate",
        key: KeyType::Rsa2048,
        days: -1..90,
        wrong_key: false,
    },
    Host {
        name: "wildcard",
        host: "*.apps.localhost",
        note: "wildcard certificate",
        key: KeyType::EcdsaP256,
        days: -1..90,
        wrong_key: false,
    },
    Host {
        name: "expired",
        host: "expired.localhost",
        note: "expired: served, and reported",
        key: KeyType::EcdsaP256,
        days: -90..0,
        wrong_key: false,
    },
    Host {
        name: "mismatch",
        host: "mismatch.localhost",
        note: "key of another certificate: refused",
        key: KeyType::EcdsaP256,
        days: -1..90,
        wrong_key: true,
    },
];

/// Writes the CA's root (`ca.pem`) and all manifests. Files with keys can be read by their owner only.
pub(super) fn write(directory: &Path, backend: SocketAddr, now: UnixTime) -> anyhow::Result<String> {
    let authority = Authority::new("Handfast demo", now).context("cannot make the demo's CA")?;
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        write_private(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    file("ca.pem", &authority.root())?;
    file("echo.yaml", &echo(backend))?;
    for host in HOSTS {
        let issue = || authority.issue(&[host.host], host.key, now, host.days.clone());
        let issued = issue().context("cannot issue a certificate")?;
        let key = if host.wrong_key { issue().context("cannot issue a certificate")?.key } else { issued.key.clone() };
        file(&format!("{}.yaml", host.name), &manifest(&host, &issued.chain(), &key, &issued.root))?;
    }
    Ok(authority.root())
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn manifest(host: &Host, chain: &str, key: &str, root: &str) -> String {
    let Host { name, host, .. } = host;
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let (chain, key, root) = (indented(chain), indented(key), indented(root));
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
spec:
  tls:
  - hosts: [\"{host}\"]
    secretName: {name}-tls
  rules:
  - host: \"{host}\"
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: echo
            port:
              name: http
---
apiVersion: v1
kind: Secret
metadata:
  name: {name}-tls
type: kubernetes.io/tls
stringData:
  tls.crt: |
{chain}  tls.key: |
{key}  ca.crt: |
{root}"
    )
}

fn echo(backend: SocketAddr) -> String {
    let (address, port) = (backend.ip(), backend.port());
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: echo
spec:
  ports:
  - name: http
    port: 80
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: echo-1
  labels:
    kubernetes.io/service-name: echo
addressType: IPv4
ports:
- name: http
  port: {port}
endpoints:
- addresses: [\"{address}\"]
"
    )
}
