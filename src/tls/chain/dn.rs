//! Distinguished names: text for people, and values that some clients cannot read.
//!
//! `DER of a name ──▶ C=US, O=…, CN=…`, and `──▶ faults`
//!
//! A name is a list of sets of attributes (RFC 5280 section 4.1.2.4), each value in one of several kinds of string.
//! Clients differ in what they read: Go checks each kind of string, OpenSSL only some, and most compare names byte by
//! byte and never look inside.

use super::der::{self, OID, SEQUENCE};
use super::refusals::{Fault, Verifier};

const SET: u8 = 0x31;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const UNIT: &[u8] = &[0x55, 4, 11];
const ORGANISATION: &[u8] = &[0x55, 4, 10];

/// One attribute: its type, and its value with the tag that says which kind of string it is.
struct Attribute<'a> {
    oid: &'a [u8],
    tag: u8,
    value: &'a [u8],
}

/// The whole name for people. Values that cannot be read are shown as `(unreadable)`.
pub(super) fn words(name: &[u8]) -> String {
    let Some(sets) = sets(name) else { return "(unreadable)".to_owned() };
    let set = |set: &Vec<Attribute<'_>>| set.iter().map(|one| format!("{}={}", one.kind(), one.shown())).collect();
    let sets: Vec<Vec<String>> = sets.iter().map(set).collect();
    sets.iter().filter(|set| !set.is_empty()).map(|set| set.join(" + ")).collect::<Vec<_>>().join(", ")
}

/// The first common name, if it can be read.
pub(super) fn common_name(name: &[u8]) -> Option<String> {
    values(name, COMMON_NAME).into_iter().next().filter(|text| !text.is_empty())
}

/// What people call it: the common name, else the last unit or organisation. The same rule made the names of the
/// withdrawn roots.
pub(super) fn short(name: &[u8]) -> Option<String> {
    let last = |oid| values(name, oid).pop();
    let text = common_name(name).or_else(|| last(UNIT)).or_else(|| last(ORGANISATION))?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// True if it has no attribute at all.
pub(super) fn is_empty(name: &[u8]) -> bool {
    sets(name).is_some_and(|sets| sets.iter().all(Vec::is_empty))
}

/// Values that somebody refuses to read. `whose` is `its issuer` or `its subject`.
pub(super) fn faults(name: &[u8], whose: &str) -> Vec<Fault> {
    // What no list of attributes is, is refused by everybody, and told when the certificate is read.
    let attributes = sets(name).into_iter().flatten().flatten();
    attributes
        .filter_map(|one| one.fault().map(|(what, by)| Fault { words: format!("{whose} has {what}"), by }))
        .collect()
}

fn values(name: &[u8], oid: &[u8]) -> Vec<String> {
    let attributes = sets(name).into_iter().flatten().flatten();
    attributes.filter(|one| one.oid == oid).filter_map(|one| one.text().ok()).collect()
}

fn sets(name: &[u8]) -> Option<Vec<Vec<Attribute<'_>>>> {
    der::members(der::expect(name, SEQUENCE)?.content)?
        .into_iter()
        .map(|set| {
            let members = if set.tag == SET { der::members(set.content) } else { None };
            members?.into_iter().map(|member| Attribute::read(&member)).collect()
        })
        .collect()
}

impl<'a> Attribute<'a> {
    fn read(member: &der::Element<'a>) -> Option<Self> {
        let oid = (member.tag == SEQUENCE).then(|| der::expect(member.content, OID)).flatten()?;
        let value = der::element(oid.rest).filter(|value| value.rest.is_empty())?;
        Some(Self { oid: oid.content, tag: value.tag, value: value.content })
    }

    fn kind(&self) -> String {
        let known = KINDS.iter().find(|(oid, ..)| *oid == self.oid);
        known.map_or_else(|| der::dotted(self.oid), |(_, short, _)| (*short).to_owned())
    }

    fn shown(&self) -> String {
        self.text().unwrap_or_else(|_| "(unreadable)".to_owned())
    }

    /// Its text, or why it has none.
    fn text(&self) -> Result<String, &'static str> {
        let bytes = self.value;
        let latin1 = || bytes.iter().map(|byte| char::from(*byte)).collect();
        match STRINGS.iter().find(|(tag, ..)| *tag == self.tag) {
            None => Err("no string"),
            Some((0x0c, ..)) => String::from_utf8(bytes.to_vec()).map_err(|_| "a UTF8String that is not UTF-8"),
            Some((0x1e, ..)) => {
                let units =
                    bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect::<Vec<_>>();
                let text = String::from_utf16(&units).ok().filter(|_| bytes.len().is_multiple_of(2));
                text.ok_or("a BMPString that is not UTF-16")
            }
            Some((0x1c, ..)) => {
                let char_of = |four: &[u8]| char::from_u32(u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
                let text: Option<String> = bytes.chunks_exact(4).map(char_of).collect();
                text.filter(|_| bytes.len().is_multiple_of(4)).ok_or("a UniversalString that is not UTF-32")
            }
            // What stands in them against their rules is read as Latin-1, as most clients do.
            Some(_) => Ok(latin1()),
        }
    }

    /// What is wrong with it, and who refuses it.
    fn fault(&self) -> Option<(String, &'static [Verifier])> {
        let name = KINDS.iter().find(|(oid, ..)| *oid == self.oid).map(|(.., name)| (*name).to_owned());
        let name = name.unwrap_or_else(|| format!("an attribute {}", der::dotted(self.oid)));
        let Some((_, kind, allows, by_kind)) = STRINGS.iter().find(|(tag, ..)| *tag == self.tag) else {
            // OpenSSL reads the types that it has no string for as they stand, and INTEGER and OCTET STRING not at all.
            let by = if matches!(self.tag, 0x02 | 0x04) { OPENSSL_AND_GO } else { GO };
            return Some((format!("{name} that is no string (tag {})", self.tag), by));
        };
        if !by_kind.is_empty() {
            return Some((format!("{name} that is a {kind}, which names may not have"), by_kind));
        }
        if let Err(what) = self.text() {
            return Some((format!("{name} that is {what}"), OPENSSL_AND_GO));
        }
        let odd = self.value.iter().find(|byte| !allows(**byte))?;
        let odd = if odd.is_ascii_graphic() { format!("'{}'", char::from(*odd)) } else { format!("byte {odd}") };
        Some((format!("{name} with {odd}, which its kind of string ({kind}) may not have"), GO))
    }
}

type Kind = (u8, &'static str, fn(u8) -> bool, &'static [Verifier]);

const GO: &[Verifier] = &[Verifier::Go];
const OPENSSL_AND_GO: &[Verifier] = &[Verifier::OpenSsl, Verifier::Go];

/// Kinds of strings: tag, name, the bytes that they may have, and who takes none of them. Of what may stand in a
/// PrintableString, the star and the ampersand are against its rules and taken by everybody.
static STRINGS: [Kind; 8] = [
    (0x0c, "UTF8String", |_| true, &[]),
    (0x12, "NumericString", |byte| byte.is_ascii_digit() || byte == b' ', &[]),
    (0x13, "PrintableString", |byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(&byte), &[]),
    (0x14, "TeletexString", |_| true, &[]),
    (0x16, "IA5String", |byte| byte.is_ascii(), &[]),
    (0x1a, "VisibleString", |byte| byte.is_ascii_graphic() || byte == b' ', OPENSSL_AND_GO),
    (0x1c, "UniversalString", |_| true, GO),
    (0x1e, "BMPString", |_| true, &[]),
];

/// Types of attributes: object identifier, the short name of RFC 4514 and OpenSSL, and words.
static KINDS: [(&[u8], &str, &str); 21] = [
    (COMMON_NAME, "CN", "a common name"),
    (&[0x55, 4, 4], "SN", "a surname"),
    (&[0x55, 4, 5], "serialNumber", "a serial number"),
    (&[0x55, 4, 6], "C", "a country"),
    (&[0x55, 4, 7], "L", "a locality"),
    (&[0x55, 4, 8], "ST", "a state"),
    (&[0x55, 4, 9], "street", "a street"),
    (ORGANISATION, "O", "an organisation"),
    (UNIT, "OU", "an organisational unit"),
    (&[0x55, 4, 12], "title", "a title"),
    (&[0x55, 4, 13], "description", "a description"),
    (&[0x55, 4, 15], "businessCategory", "a business category"),
    (&[0x55, 4, 17], "postalCode", "a postal code"),
    (&[0x55, 4, 42], "GN", "a given name"),
    (&[0x55, 4, 46], "dnQualifier", "a qualifier"),
    (&[0x55, 4, 97], "organizationIdentifier", "an identifier of an organisation"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID", "a user's name"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC", "a domain component"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress", "an e-mail address"),
    (&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1, 2], "jurisdictionST", "a state of jurisdiction"),
    (&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1, 3], "jurisdictionC", "a country of jurisdiction"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = der::sequence(content);
        bytes[0] = tag;
        bytes
    }

    fn name(attributes: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
        let set = |(oid, tag, value): &(&[u8], u8, &[u8])| {
            tlv(SET, &der::sequence(&[tlv(OID, oid), tlv(*tag, value)].concat()))
        };
        der::sequence(&attributes.iter().map(set).collect::<Vec<_>>().concat())
    }

    #[test]
    fn names_are_written_with_the_attributes_in_their_order() {
        let country: &[u8] = &[0x55, 4, 6];
        let text = name(&[
            (country, 0x13, b"US"),
            (ORGANISATION, 0x0c, "Caf\u{e9}".as_bytes()),
            (COMMON_NAME, 0x1e, b"\0R\0X"),
        ]);
        assert_eq!(words(&text), "C=US, O=Caf\u{e9}, CN=RX");
        assert_eq!((common_name(&text).as_deref(), short(&text).as_deref()), (Some("RX"), Some("RX")));
        let unit = name(&[(ORGANISATION, 0x13, b"A"), (UNIT, 0x13, b"First"), (UNIT, 0x13, b"Class  2")]);
        assert_eq!((common_name(&unit), short(&unit).as_deref()), (None, Some("Class 2")));
        assert_eq!(words(&name(&[(&[0x2a, 3], 0x0c, b"x")])), "1.2.3=x");
        assert!(is_empty(&name(&[])) && is_empty(&der::sequence(&[SET, 0])) && !is_empty(&text));
        assert_eq!(words(b"\x30\x03abc"), "(unreadable)");
    }

    #[test]
    fn values_that_somebody_cannot_read_are_named_with_who_that_is() {
        let fault = |tag: u8, value: &[u8]| {
            let faults = faults(&name(&[(COMMON_NAME, tag, value)]), "its issuer");
            faults.into_iter().next().map(|fault| (fault.words, fault.by))
        };
        let good: [(u8, &[u8]); 7] = [
            (0x0c, "caf\u{e9}".as_bytes()),
            (0x13, b"*.shop & (more)"),
            (0x14, b"caf\xe9"),
            (0x16, b"a@b"),
            (0x1e, b"\0a"),
            (0x12, b"1 2"),
            (0x0c, b""),
        ];
        for (tag, value) in good {
            assert_eq!(fault(tag, value), None, "{tag} {value:?}");
        }
        let said = |tag, value: &[u8]| fault(tag, value).unwrap();
        assert_eq!(
            said(0x0c, b"caf\xe9"),
            ("its issuer has a common name that is a UTF8String that is not UTF-8".into(), OPENSSL_AND_GO)
        );
        let (words, by) = said(0x13, b"my_ca");
        assert!(
            words.ends_with("a common name with '_', which its kind of string (PrintableString) may not have")
                && by == GO,
            "{words}"
        );
        assert!(said(0x13, b"caf\xe9").0.contains("with byte 233"));
        assert_eq!(said(0x1e, b"abc").1, OPENSSL_AND_GO);
        assert_eq!((said(0x1c, b"\0\0\0a").1, said(0x03, b"\0a").1, said(0x02, &[5]).1), (GO, GO, OPENSSL_AND_GO));
    }
}
