//! The certificate that the webhook makes for itself: a CA, and a leaf for the name of its Service.
//!
//! `what is kept × names × now ──need──▶ nothing, a leaf, or everything ──make──▶ what is kept from now on`
//!
//! The key of the CA is kept as well, so that a new leaf is taken by an API server that knows nothing but the CA. When the
//! CA itself is due, the new one stands before the old one in the bundle, until that expires: whoever has shown the old
//! leaf may go on. Pure but for the random numbers of new keys.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::demo::pki::set_days;

/// What is kept in the Secret, all of it PEM. No `Debug`: it has keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// CAs: the one that issues, then older ones.
    pub ca: String,
    /// Key of the first CA.
    ca_key: String,
    /// The leaf.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// What has to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Another CA, and a leaf of it.
    Everything,
    /// Another leaf of the same CA.
    Leaf,
    /// Nothing now.
    Nothing,
}

const CA_DAYS: i64 = 3_650;
const LEAF_DAYS: i64 = 90;

/// Names of the entries of the Secret.
const ENTRIES: [&str; 4] = ["ca.crt", "ca.key", "tls.crt", "tls.key"];

impl Kept {
    /// Reads it from a Secret's data; `None` if it is not there, or not all of it.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let text = |name| String::from_utf8(data.get(name)?.0.clone()).ok().filter(|text| !text.is_empty());
        let [ca, ca_key, certificate, key] = ENTRIES.map(text);
        Some(Self { ca: ca?, ca_key: ca_key?, certificate: certificate?, key: key? })
    }

    /// Puts it into a Secret's data.
    pub fn write(&self, data: &mut BTreeMap<String, ByteString>) {
        let texts = [&self.ca, &self.ca_key, &self.certificate, &self.key];
        for (name, text) in ENTRIES.into_iter().zip(texts) {
            data.insert(name.to_owned(), ByteString(text.as_bytes().to_vec()));
        }
    }

    /// Whether the leaf can be shown for these names now.
    pub fn is_usable(&self, names: &[String], now: UnixTime) -> bool {
        let (Some(ca), Some(leaf)) = (Parsed::first(&self.ca), Parsed::first(&self.certificate)) else { return false };
        let key = KeyPair::from_pem(&self.key);
        let fits = |key: KeyPair| key.subject_public_key_info() == leaf.spki;
        ca.is_valid(now) && leaf.is_valid(now) && leaf.has(names) && leaf.is_issued_by(&ca) && key.is_ok_and(fits)
    }

    /// What is due: everything is renewed when two thirds of its time are over.
    pub fn need(&self, names: &[String], now: UnixTime) -> Need {
        let ca = Parsed::first(&self.ca).filter(|ca| ca.is_valid(now) && !ca.is_due(now));
        let key = KeyPair::from_pem(&self.ca_key);
        let Some(ca) = ca.filter(|ca| key.is_ok_and(|key| key.subject_public_key_info() == ca.spki)) else {
            return Need::Everything;
        };
        let leaf = Parsed::first(&self.certificate).filter(|leaf| leaf.is_issued_by(&ca) && !leaf.is_due(now));
        if leaf.is_none() || !self.is_usable(names, now) { Need::Leaf } else { Need::Nothing }
    }
}

/// Makes what is needed, in place of what is kept.
pub fn make(kept: Option<&Kept>, need: Need, names: &[String], now: UnixTime) -> Result<Kept, rcgen::Error> {
    let (ca, ca_key) = match (kept, need) {
        (Some(kept), Need::Leaf | Need::Nothing) => (kept.ca.clone(), KeyPair::from_pem(&kept.ca_key)?),
        (kept, Need::Everything | Need::Leaf | Need::Nothing) => {
            let key = KeyPair::generate()?;
            let mut bundle = authority(now).self_signed(&key)?.pem();
            // Two at most: the one before has issued what is shown now.
            let before = kept.and_then(|kept| Some((Parsed::first(&kept.ca)?, &kept.ca)));
            if let Some((before, text)) = before
                && before.is_valid(now)
            {
                bundle.push_str(first_block(text));
            }
            (bundle, key)
        }
    };
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = named("handfast webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_days(&mut params, now, &(-1..LEAF_DAYS));
    let ca_pem = ca_key.serialize_pem();
    let certificate = params.signed_by(&key, &Issuer::new(authority(now), ca_key))?.pem();
    Ok(Kept { ca, ca_key: ca_pem, certificate, key: key.serialize_pem() })
}

/// A CA as all of ours are: the same name, so that an issuer can be made from its key alone.
fn authority(now: UnixTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("handfast webhook CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_days(&mut params, now, &(-1..CA_DAYS));
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

/// The first certificate of a PEM text, as text.
pub(super) fn first_block(text: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    let end = text.find(END).map_or(text.len(), |at| at + END.len());
    let end = end + text[end..].bytes().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    &text[..end]
}

/// What has to be known of a certificate.
struct Parsed {
    der: CertificateDer<'static>,
    spki: Vec<u8>,
    names: Vec<String>,
    not_before: u64,
    not_after: u64,
}

impl Parsed {
    fn first(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).ok();
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Some(Self {
            spki: certificate.public_key().raw.to_vec(),
            names: names.collect(),
            not_before: seconds(certificate.validity().not_before)?,
            not_after: seconds(certificate.validity().not_after)?,
            der: der.clone(),
        })
    }

    fn is_valid(&self, now: UnixTime) -> bool {
        (self.not_before..=self.not_after).contains(&now.as_secs())
    }

    fn is_due(&self, now: UnixTime) -> bool {
        now.as_secs() >= self.not_before + self.not_after.saturating_sub(self.not_before) / 3 * 2
    }

    fn has(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.names.contains(name))
    }

    fn is_issued_by(&self, ca: &Self) -> bool {
        let (Ok((_, leaf)), Ok((_, ca))) = (X509Certificate::from_der(&self.der), X509Certificate::from_der(&ca.der))
        else {
            return false;
        };
        leaf.issuer() == ca.subject() && leaf.verify_signature(Some(ca.public_key())).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_767_225_600;

    fn day(day: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(NOW + day * 86_400))
    }

    fn names() -> Vec<String> {
        vec!["handfast-webhook.ingress.svc".to_owned(), "handfast-webhook.ingress.svc.cluster.local".to_owned()]
    }

    #[test]
    fn what_is_made_is_usable_and_renewed_when_two_thirds_are_over() {
        let first = make(None, Need::Everything, &names(), day(0)).unwrap();
        assert!(first.is_usable(&names(), day(0)) && first.need(&names(), day(58)) == Need::Nothing);
        assert_eq!(first.need(&names(), day(61)), Need::Leaf);
        assert!(first.is_usable(&names(), day(89)) && !first.is_usable(&names(), day(91)));
        let second = make(Some(&first), Need::Leaf, &names(), day(61)).unwrap();
        assert!(second.ca == first.ca && second.certificate != first.certificate);
        assert_eq!(second.need(&names(), day(62)), Need::Nothing);
    }

    #[test]
    fn a_new_authority_stands_beside_the_old_one_until_that_has_expired() {
        let first = make(None, Need::Everything, &names(), day(0)).unwrap();
        assert_eq!(first.need(&names(), day(2_500)), Need::Everything);
        let second = make(Some(&first), Need::Everything, &names(), day(2_500)).unwrap();
        assert!(second.ca.ends_with(&first.ca) && second.ca.len() > first.ca.len());
        assert_eq!(second.need(&names(), day(2_500)), Need::Nothing);
        // The oldest goes with the next change.
        let third = make(Some(&second), Need::Everything, &names(), day(5_000)).unwrap();
        assert_eq!(third.ca.matches("BEGIN").count(), 2);
        let after_a_long_time = make(Some(&first), Need::Everything, &names(), day(4_000)).unwrap();
        assert_eq!(after_a_long_time.ca.matches("BEGIN").count(), 1);
    }

    #[test]
    fn what_does_not_belong_together_is_made_anew() {
        let one = make(None, Need::Everything, &names(), day(0)).unwrap();
        let other = make(None, Need::Everything, &names(), day(0)).unwrap();
        let need = |kept: Kept| (kept.need(&names(), day(0)), kept.is_usable(&names(), day(0)));
        assert_eq!(need(Kept { ca: other.ca.clone(), ..one.clone() }), (Need::Everything, false));
        assert_eq!(need(Kept { key: other.key.clone(), ..one.clone() }), (Need::Leaf, false));
        assert_eq!(need(Kept { certificate: "garbage".into(), ..one.clone() }), (Need::Leaf, false));
        assert_eq!(need(Kept { ca_key: String::new(), ..one.clone() }), (Need::Everything, true));
        let renamed = vec!["other.ingress.svc".to_owned()];
        assert_eq!((one.need(&renamed, day(0)), one.is_usable(&renamed, day(0))), (Need::Leaf, false));
    }

    #[test]
    fn a_secret_holds_it_and_a_part_of_it_is_nothing() {
        let kept = make(None, Need::Everything, &names(), day(0)).unwrap();
        let mut data = BTreeMap::new();
        kept.write(&mut data);
        assert!(Kept::read(&data) == Some(kept));
        data.insert("ca.key".to_owned(), ByteString(Vec::new()));
        assert!(Kept::read(&data).is_none());
        assert!(Kept::read(&BTreeMap::new()).is_none());
    }
}
