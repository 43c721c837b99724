//! The certificates of a control plane, and kubeconfigs that use them.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use handfast::demo::pki::{KeyType, generate};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// The CA of one control plane, with its files.
pub struct Pki {
    folder: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
    /// Where kubeconfigs point.
    server: String,
}

/// A certificate with its key, both PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Pki {
    /// Makes `ca.crt`, `server.{crt,key}` for these addresses, `sa.{pub,key}` and `admin.conf` in a folder.
    pub fn new(folder: &Path, server: &str, addresses: &[IpAddr]) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("cluster", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        for_long(&mut params);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self { folder: folder.to_owned(), ca, server: server.to_owned() };
        fs::write(pki.file("ca.crt"), pki.ca.pem()).unwrap();

        let mut params = CertificateParams::new(vec!["kubernetes.default.svc".to_owned()]).unwrap();
        params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.distinguished_name = named("kube-apiserver", &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = pki.sign(params);
        fs::write(pki.file("server.crt"), server.certificate).unwrap();
        fs::write(pki.file("server.key"), server.key).unwrap();

        let accounts = generate(KeyType::Rsa2048).unwrap();
        fs::write(pki.file("sa.pub"), accounts.public_key_pem()).unwrap();
        fs::write(pki.file("sa.key"), accounts.serialize_pem()).unwrap();

        pki.client_kubeconfig("admin", &["system:masters"]);
        pki
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The CA's certificate, PEM.
    pub fn ca(&self) -> String {
        self.ca.pem()
    }

    /// A client certificate of this CA.
    pub fn client(&self, name: &str, groups: &[&str]) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name, groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Writes `NAME.conf` for a user with a client certificate.
    pub fn client_kubeconfig(&self, name: &str, groups: &[&str]) -> PathBuf {
        let identity = self.client(name, groups);
        let user = format!(
            "client-certificate-data: {}, client-key-data: {}",
            STANDARD.encode(identity.certificate),
            STANDARD.encode(identity.key)
        );
        self.kubeconfig(name, "default", &user)
    }

    /// Writes `NAME.conf` for a user with a token in a file, which may be replaced.
    pub fn token_kubeconfig(&self, name: &str, namespace: &str, token_file: &Path) -> PathBuf {
        self.kubeconfig(name, namespace, &format!("tokenFile: \"{}\"", token_file.display()))
    }

    fn kubeconfig(&self, name: &str, namespace: &str, user: &str) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: e2e, cluster: {{server: \"{}\", certificate-authority-data: {}}}}}]\n\
             users: [{{name: \"{name}\", user: {{{user}}}}}]\n\
             contexts: [{{name: e2e, context: {{cluster: e2e, user: \"{name}\", namespace: \"{namespace}\"}}}}]\n\
             current-context: e2e\n",
            self.server,
            STANDARD.encode(self.ca.pem()),
        );
        let file = self.file(&format!("{name}.conf"));
        fs::write(&file, text).unwrap();
        file
    }

    fn sign(&self, mut params: CertificateParams) -> Identity {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        for_long(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

fn named(name: &str, groups: &[&str]) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    for group in groups {
        distinguished_name.push(DnType::OrganizationName, *group);
    }
    distinguished_name
}

fn for_long(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2120, 1, 1));
}
