//! Certificates with anything wrong that a test asks for, made at run time.

use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use handfast::demo::pki::{KeyType, generate};
use handfast::tls::chain::{Chain, Credential, Finding, Loaded, Name, TrustAnchors};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use rustls::pki_types::UnixTime;

use crate::binary::program;
use crate::manifests::{NOW, at};

pub const DAY: i64 = 86_400;

/// A CA, or a certificate that passes for one.
pub type Ca = CertifiedIssuer<'static, KeyPair>;

/// The host of all leaves.
pub const HOST: &str = "shop.example";

/// A leaf and its key.
pub struct Leaf {
    pub pem: String,
    pub key: String,
}

/// Validity in days around [`NOW`].
pub fn valid(params: &mut CertificateParams, from: i64, to: i64) {
    valid_around(params, at(NOW), from, to);
}

/// Validity in days around a moment.
pub fn valid_around(params: &mut CertificateParams, now: UnixTime, from: i64, to: i64) {
    let day = |day| {
        let date = date(now, day);
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (day(from), day(to));
}

fn date(now: UnixTime, day: i64) -> jiff::civil::Date {
    let time = jiff::Timestamp::from_second(i64::try_from(now.as_secs()).unwrap() + day * DAY).unwrap();
    time.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// A CA's list of revoked serial numbers, PEM, current from and until these days around a moment.
pub fn crl(issuer: &Ca, now: UnixTime, days: Range<i64>, revoked: &[u64]) -> String {
    let day = |day| {
        let date = date(now, day);
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let revoked = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: day(days.start),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: day(days.start),
        next_update: day(days.end),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

pub fn named(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

pub fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, -1825, 3650);
    params
}

pub fn leaf_params() -> CertificateParams {
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.distinguished_name = named(HOST);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, -10, 80);
    params
}

pub fn root(name: &str) -> Ca {
    Ca::self_signed(ca_params(name), KeyPair::generate().unwrap()).unwrap()
}

/// A root with the name and the key identifier of one that trust stores have removed, which is all that the
/// certificates below it say of it. Its key is another one.
pub fn withdrawn() -> Ca {
    let mut params = ca_params(WITHDRAWN);
    let key_id = (0..40).step_by(2).map(|at| u8::from_str_radix(&WITHDRAWN_KEY[at..at + 2], 16).unwrap());
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.collect());
    Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

const WITHDRAWN: &str = "DigiCert Global Root CA";
const WITHDRAWN_KEY: &str = "03de503556d14cbb66f0a3e21b1bc397b23dd155";

pub fn ca(name: &str, issuer: &Ca) -> Ca {
    ca_with(name, issuer, |_| {})
}

pub fn ca_with(name: &str, issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = ca_params(name);
    change(&mut params);
    Ca::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
}

/// The same name and key, signed by another CA.
pub fn cross_signed(name: &str, key: &KeyPair, issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = ca_params(name);
    change(&mut params);
    Ca::signed_by(params, KeyPair::from_pem(&key.serialize_pem()).unwrap(), issuer).unwrap()
}

pub fn leaf(issuer: &Ca) -> Leaf {
    leaf_with(issuer, |_| {})
}

pub fn leaf_with(issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
    leaf_of(KeyType::EcdsaP256, issuer, change)
}

pub fn leaf_of(key: KeyType, issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
    let mut params = leaf_params();
    change(&mut params);
    let key = generate(key).unwrap();
    let pem = params.signed_by(&key, issuer).unwrap().pem();
    Leaf { pem, key: key.serialize_pem() }
}

/// An SCT list, as public CAs embed it. The one entry is of no known log.
pub fn sct_list(params: &mut CertificateParams) {
    let mut sct = vec![0];
    sct.extend([7; 32]);
    sct.extend([0, 0, 1, 0x9b, 0, 0, 0, 0, 0, 0]);
    sct.extend([4, 3, 0, 4, 1, 2, 3, 4]);
    let length = u8::try_from(sct.len()).unwrap();
    let mut list = vec![0, length + 2, 0, length];
    list.extend(sct);
    let mut content = vec![4, u8::try_from(list.len()).unwrap()];
    content.extend(list);
    params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 11129, 2, 4, 2], content));
}

/// The policy "domain validated" of the CA/Browser Forum.
pub fn domain_validated(params: &mut CertificateParams) {
    let content = vec![0x30, 0x0a, 0x30, 0x08, 0x06, 0x06, 0x67, 0x81, 0x0c, 0x01, 0x02, 0x01];
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 32], content));
}

pub fn must_staple(params: &mut CertificateParams) {
    let content = vec![0x30, 0x03, 0x02, 0x01, 0x05];
    params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], content));
}

/// Where the CA publishes its own certificate.
pub fn issuer_url(params: &mut CertificateParams, url: &str) {
    let length = |extra: usize| u8::try_from(url.len() + extra).unwrap();
    let mut content = vec![0x30, length(14), 0x30, length(12), 0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2, 0x86, length(0)];
    content.extend(url.bytes());
    params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content));
}

pub fn anchors(pem: &str) -> TrustAnchors {
    TrustAnchors::none().with_file(pem.as_bytes()).unwrap()
}

/// Loads with its key, for clients that trust `trusted`; where nobody says whom they trust, the public roots.
pub fn load(tls_crt: &str, leaf: &Leaf, trusted: &str) -> Loaded {
    let anchors = if trusted.is_empty() { TrustAnchors::public() } else { anchors(trusted) };
    Credential::load(tls_crt.as_bytes(), leaf.key.as_bytes(), b"", &anchors)
}

/// Codes of all findings now, for [`HOST`].
pub fn codes(tls_crt: &str, leaf: &Leaf, trusted: &str) -> Vec<&'static str> {
    let loaded = load(tls_crt, leaf, trusted);
    let mut findings = loaded.findings;
    if let Some(credential) = loaded.credential {
        findings.extend(credential.dated(at(NOW)).findings);
        findings.extend(credential.covers(&HOST.parse().unwrap()).err());
    }
    findings.iter().map(Finding::code).collect()
}

/// Codes of all findings at a time, without a key.
pub fn codes_at(tls_crt: &str, trusted: &str, time: UnixTime) -> Vec<&'static str> {
    let (chain, mut findings) = Chain::load(tls_crt.as_bytes(), b"", &anchors(trusted));
    let chain = chain.unwrap();
    findings.extend(chain.dated(time).findings);
    findings.extend(chain.covers(&HOST.parse::<Name>().unwrap()).err());
    findings.iter().map(Finding::code).collect()
}

/// A CA and leaves that only OpenSSL makes: weak and odd signatures. Valid from the moment on.
pub struct OpenSsl {
    directory: tempfile::TempDir,
}

impl OpenSsl {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// Runs `openssl` with words in the directory.
    pub fn run(&self, words: &str) {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Whether `openssl` with words ends well.
    pub fn succeeds(&self, words: &str) -> bool {
        self.command(words).output().unwrap().status.success()
    }

    fn command(&self, words: &str) -> Command {
        let mut command = program("openssl");
        command.args(words.split_whitespace()).current_dir(self.directory.path());
        command
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// `ca.pem` and `ca.key`.
    pub fn ca(&self, key: &str) {
        self.run(&format!("genpkey {key} -out ca.key"));
        self.run(
            "req -x509 -new -key ca.key -subj /CN=Old -days 3650 -addext keyUsage=critical,keyCertSign -out ca.pem",
        );
    }

    /// A leaf for [`HOST`], signed by `ca.key` with these options.
    pub fn leaf(&self, sign: &str) -> Leaf {
        let extensions = format!(
            "subjectAltName=DNS:{HOST}\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE\n\
             authorityKeyIdentifier=keyid\n"
        );
        std::fs::write(self.directory.path().join("leaf.ext"), extensions).unwrap();
        self.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out leaf.key");
        self.run("req -new -key leaf.key -subj /CN=shop -out leaf.csr");
        self.run(&format!(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 90 -extfile leaf.ext {sign} -out leaf.pem"
        ));
        Leaf { pem: self.read("leaf.pem"), key: self.read("leaf.key") }
    }
}

/// A moment later than now, as certificates of [`OpenSsl`] are valid from now on.
pub fn soon() -> UnixTime {
    at(UnixTime::now().as_secs() + 60)
}
