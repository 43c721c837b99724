//! A small certificate authority: a root, one intermediate, and leaves, made at run time.
//!
//! For the demo and for tests. Nothing of it is kept: each process makes its own keys.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use rustls::pki_types::UnixTime;

/// A root and an intermediate that can issue leaves.
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A leaf with everything that a Secret needs.
pub struct Issued {
    /// The leaf certificate, PEM.
    pub leaf: String,
    /// The private key, PKCS#8 PEM.
    pub key: String,
    /// The intermediate, PEM.
    pub intermediate: String,
    /// The root, PEM: what belongs into `ca.crt`.
    pub root: String,
}

impl Issued {
    /// What belongs into `tls.crt`: leaf, then intermediate.
    pub fn chain(&self) -> String {
        format!("{}{}", self.leaf, self.intermediate)
    }
}

/// The type of a leaf's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA P-256.
    EcdsaP256,
    /// ECDSA P-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
    /// RSA with 2048 bits.
    Rsa2048,
}

/// Days, counted from a moment, between which a certificate is valid.
pub type Days = std::ops::Range<i64>;

impl Authority {
    /// Makes a root and an intermediate that are valid for ten years around `now`.
    pub fn new(name: &str, now: UnixTime) -> Result<Self, rcgen::Error> {
        let authority = |title: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name = common_name(&format!("{name} {title}"));
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.use_authority_key_identifier_extension = true;
            set_days(&mut params, now, &(-1825..1825));
            params
        };
        let root = CertifiedIssuer::self_signed(authority("Root"), KeyPair::generate()?)?;
        let intermediate = CertifiedIssuer::signed_by(authority("Intermediate"), KeyPair::generate()?, &root)?;
        Ok(Self { root, intermediate })
    }

    /// The root certificate, PEM: what clients have to trust.
    pub fn root(&self) -> String {
        self.root.pem()
    }

    /// Issues a leaf for DNS names, valid between two days from `now`.
    pub fn issue(&self, names: &[&str], key: KeyType, now: UnixTime, days: Days) -> Result<Issued, rcgen::Error> {
        let key = generate(key)?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone())?;
        params.distinguished_name = common_name(names.first().map_or("no name", |name| name));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_days(&mut params, now, &days);
        let leaf = params.signed_by(&key, &self.intermediate)?;
        Ok(Issued {
            leaf: leaf.pem(),
            key: key.serialize_pem(),
            intermediate: self.intermediate.pem(),
            root: self.root(),
        })
    }
}

/// Generates a private key.
pub fn generate(key: KeyType) -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(match key {
        KeyType::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
        KeyType::EcdsaP384 => &PKCS_ECDSA_P384_SHA384,
        KeyType::Ed25519 => &PKCS_ED25519,
        KeyType::Rsa2048 => &PKCS_RSA_SHA256,
    })
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

/// Lets a certificate be valid between two days from `now`.
pub(crate) fn set_days(params: &mut CertificateParams, now: UnixTime, days: &Days) {
    let at = |day: i64| {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_add(day.saturating_mul(86_400));
        let date = jiff::Timestamp::from_second(seconds).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = at(days.start);
    params.not_after = at(days.end);
}
