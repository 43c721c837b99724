//! What a text is that should be PEM and is not, or holds something else: told by name, so that it can be mended.
//!
//! ```text
//! bytes ──recognise──▶ Form: how it is written, what it holds ──▶ words and advice
//! DER   ──thing──────▶ Thing
//! ```
//!
//! Nothing here is taken in place of what should stand there: another program reads the same Secret, and most refuse
//! what is odd. Nothing here is quoted either: words are chosen from tables, because the text may be a private key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::der::{self, BIT_STRING, INTEGER, OCTET_STRING, OID, SEQUENCE};
use super::pem::{self, Label};

/// What a PEM block or a DER structure holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Certificate,
    EncryptedKey,
    Parameters,
    Pgp,
    Pkcs12,
    Pkcs7,
    PrivateKey,
    PublicKey,
    Request,
    RevocationList,
    SshKey,
    TrustedCertificate,
    /// Something that is known, and of no use for TLS.
    Useless,
}

/// Every label that is known: RFC 7468, and what OpenSSL, GnuTLS, OpenSSH and PGP write.
pub(super) const LABELS: &[(&str, Thing)] = &[
    ("CERTIFICATE", Thing::Certificate),
    ("X509 CERTIFICATE", Thing::Certificate),
    ("TRUSTED CERTIFICATE", Thing::TrustedCertificate),
    ("CERTIFICATE REQUEST", Thing::Request),
    ("NEW CERTIFICATE REQUEST", Thing::Request),
    ("X509 CRL", Thing::RevocationList),
    ("PKCS7", Thing::Pkcs7),
    ("PKCS #7 SIGNED DATA", Thing::Pkcs7),
    ("CMS", Thing::Pkcs7),
    ("CERTIFICATE CHAIN", Thing::Pkcs7),
    ("PKCS12", Thing::Pkcs12),
    ("PRIVATE KEY", Thing::PrivateKey),
    ("RSA PRIVATE KEY", Thing::PrivateKey),
    ("EC PRIVATE KEY", Thing::PrivateKey),
    ("DSA PRIVATE KEY", Thing::PrivateKey),
    ("OPENSSH PRIVATE KEY", Thing::PrivateKey),
    ("ANY PRIVATE KEY", Thing::PrivateKey),
    ("TSS2 PRIVATE KEY", Thing::PrivateKey),
    ("ENCRYPTED PRIVATE KEY", Thing::EncryptedKey),
    ("PUBLIC KEY", Thing::PublicKey),
    ("RSA PUBLIC KEY", Thing::PublicKey),
    ("EC PUBLIC KEY", Thing::PublicKey),
    ("DSA PUBLIC KEY", Thing::PublicKey),
    ("DH PARAMETERS", Thing::Parameters),
    ("X9.42 DH PARAMETERS", Thing::Parameters),
    ("DSA PARAMETERS", Thing::Parameters),
    ("EC PARAMETERS", Thing::Parameters),
    ("SSH2 PUBLIC KEY", Thing::SshKey),
    ("SSH2 ENCRYPTED PRIVATE KEY", Thing::SshKey),
    ("PGP PUBLIC KEY BLOCK", Thing::Pgp),
    ("PGP PRIVATE KEY BLOCK", Thing::Pgp),
    ("PGP MESSAGE", Thing::Pgp),
    ("ATTRIBUTE CERTIFICATE", Thing::Useless),
    ("SSL SESSION PARAMETERS", Thing::Useless),
    ("ECHCONFIG", Thing::Useless),
    ("AGE ENCRYPTED FILE", Thing::Useless),
];

impl Thing {
    /// Fits behind "it is".
    pub(super) fn words(self) -> &'static str {
        match self {
            Thing::Certificate => "a certificate",
            Thing::EncryptedKey => "an encrypted private key",
            Thing::Parameters => "parameters of a key or a key exchange",
            Thing::Pgp => "something of PGP",
            Thing::Pkcs12 => "a PKCS#12 file (.p12, .pfx)",
            Thing::Pkcs7 => "a PKCS#7 bundle (.p7b)",
            Thing::PrivateKey => "a private key",
            Thing::PublicKey => "a public key",
            Thing::Request => "a certificate request (CSR)",
            Thing::RevocationList => "a revocation list",
            Thing::SshKey => "a key of SSH",
            Thing::TrustedCertificate => "a certificate in a form of OpenSSL's own (TRUSTED CERTIFICATE)",
            Thing::Useless => "something that TLS has no use for",
        }
    }

    /// What to do where it stands in place of a certificate.
    pub(super) fn in_place_of_certificate(self) -> &'static str {
        match self {
            Thing::Certificate => "label the block CERTIFICATE",
            Thing::EncryptedKey | Thing::PrivateKey => {
                "put the certificate there, and the key into tls.key only; are the two exchanged? A key that others \
                 could read must be replaced"
            }
            Thing::Parameters | Thing::Useless => "leave it out, and put the PEM certificate there",
            Thing::Pgp | Thing::SshKey => "put the X.509 certificate there that a CA has issued; TLS knows no other",
            Thing::Pkcs12 => "take the certificates out of it: openssl pkcs12 -nokeys -in FILE",
            Thing::Pkcs7 => "take the certificates out of it: openssl pkcs7 -print_certs -in FILE",
            Thing::PublicKey => "put the certificate there that the CA has issued for this key",
            Thing::Request => "put the certificate there that the CA has issued for this request",
            Thing::RevocationList => "put the certificate there; lists of revoked certificates of clients go to ca.crl",
            Thing::TrustedCertificate => {
                "convert it: openssl x509 -in FILE prints it as a CERTIFICATE, which other programs take too"
            }
        }
    }

    /// What to do with it in DER, where a certificate is expected.
    fn in_der(self) -> &'static str {
        match self {
            Thing::Certificate => "convert it: openssl x509 -inform der -in FILE",
            Thing::PrivateKey => "convert it: openssl pkey -inform der -in FILE",
            Thing::EncryptedKey => "decrypt it: openssl pkey -inform der -in FILE",
            Thing::Pkcs7 => "take the certificates out of it: openssl pkcs7 -inform der -print_certs -in FILE",
            Thing::Pkcs12 => {
                "take both parts out of it: openssl pkcs12 -nokeys -in FILE for tls.crt, openssl pkcs12 -nocerts \
                 -nodes -in FILE for tls.key"
            }
            Thing::RevocationList => "convert it: openssl crl -inform der -in FILE",
            Thing::Parameters
            | Thing::Pgp
            | Thing::PublicKey
            | Thing::Request
            | Thing::SshKey
            | Thing::TrustedCertificate
            | Thing::Useless => self.in_place_of_certificate(),
        }
    }

    /// True of keys that are to be secret.
    pub(super) fn is_private_key(self) -> bool {
        matches!(self, Thing::EncryptedKey | Thing::PrivateKey)
    }
}

/// What a text without a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    shape: Shape,
    /// What it holds, if that can be told.
    pub(super) thing: Option<Thing>,
}

/// How a text is written, where it is not PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Base64 of DER, without BEGIN and END lines.
    Bare,
    Der,
    /// PEM, in base64 so many times more than is right.
    Encoded(u8),
    LiteralBreaks,
    /// Characters that look like spaces, hyphens or quotes.
    Lookalikes(&'static str),
    /// BEGIN lines in small letters, or with another number of hyphens.
    Markers,
    /// BEGIN lines that begin with something else.
    NotAtFront,
    /// No certificate or key in any way: words and advice.
    Other(&'static str, &'static str),
    Quoted,
    Utf16,
}

pub(super) const CARRIAGE_RETURNS: &str = "end lines with LF or CR LF: tr '\\r' '\\n' < FILE";
pub(super) const LITERAL_BREAKS: &str =
    "write line breaks in place of \\n: in YAML as a block (|) or within double quotes, in a shell with printf '%b'";
pub(super) const LOOKALIKES: &str = "copy the PEM text from the file itself, not from a web page, a chat or a document";

impl Form {
    /// True if it is what should stand there, written in a way that nobody reads. What cannot be told counts as that.
    pub(super) fn may_be(self, is_right: impl Fn(Thing) -> bool) -> bool {
        !matches!(self.shape, Shape::Other(..)) && self.thing.is_none_or(is_right)
    }

    /// What to do about it.
    pub(super) fn advice(self) -> &'static str {
        match self.shape {
            Shape::Bare => {
                "put its BEGIN line before it and its END line behind it, and break it into lines of 64 characters"
            }
            Shape::Der => self.thing.map_or("convert it to PEM with openssl, by -inform der", Thing::in_der),
            Shape::Encoded(_) => {
                "encode it once: values under data are the base64 of the PEM text, those under stringData the PEM text \
                 itself"
            }
            Shape::LiteralBreaks => LITERAL_BREAKS,
            Shape::Lookalikes(_) => LOOKALIKES,
            Shape::Markers => "write BEGIN and END lines in capital letters, between five hyphens on each side",
            Shape::NotAtFront => "begin a line with -----BEGIN, without anything before it",
            Shape::Other(_, advice) => advice,
            Shape::Quoted => "leave the quotes out: they are part of the text here",
            Shape::Utf16 => "save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE",
        }
    }
}

impl fmt::Display for Form {
    /// A clause: `it is a certificate in DER, not PEM`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thing = self.thing.map_or("text", Thing::words);
        match (self.shape, self.thing) {
            (Shape::Bare, _) => write!(f, "it is the base64 text of {thing} without BEGIN and END lines"),
            (Shape::Der, None) => f.write_str("it is DER, not PEM"),
            (Shape::Der, Some(_)) => write!(f, "it is {thing} in DER, not PEM"),
            (Shape::Encoded(1), _) => write!(f, "it is {thing} in base64 twice: the value still is base64 of PEM"),
            (Shape::Encoded(more), _) => write!(f, "it is {thing} in base64 {} times", more + 1),
            (Shape::LiteralBreaks, _) => {
                write!(f, "it is {thing} whose line breaks are written as the two characters \\n")
            }
            (Shape::Lookalikes(name), _) => write!(f, "it is {thing} with {name} in or before its BEGIN line"),
            (Shape::Markers, _) => {
                write!(f, "it is {thing} whose BEGIN line has small letters, or not five hyphens on each side")
            }
            (Shape::NotAtFront, _) => write!(f, "it is {thing} whose BEGIN line does not begin with -----BEGIN"),
            (Shape::Other(words, _), _) => f.write_str(words),
            (Shape::Quoted, _) => write!(f, "it is {thing} in quotes"),
            (Shape::Utf16, None) => f.write_str("it is UTF-16 text, not UTF-8"),
            (Shape::Utf16, Some(_)) => write!(f, "it is {thing} in UTF-16, not UTF-8"),
        }
    }
}

/// How other texts begin, what they are, and what to do about them.
const BEGINNINGS: &[(&[u8], &str, &str)] = &[
    (b"\xfe\xed\xfe\xed", "it is a Java keystore", KEYSTORE),
    (b"\xce\xce\xce\xce", "it is a Java keystore", KEYSTORE),
    (b"\x1f\x8b", "it is compressed (gzip)", "unpack it"),
    (b"PK\x03\x04", "it is a ZIP archive", "unpack it"),
    (b"ssh-", "it is a public key of SSH", "put what TLS uses there: X.509 certificates and their keys"),
    (b"ecdsa-sha2-", "it is a public key of SSH", "put what TLS uses there: X.509 certificates and their keys"),
    (b"PuTTY-", "it is a key of PuTTY", "put what TLS uses there: X.509 certificates and their keys"),
    (b"ENC[", "it is encrypted by SOPS", "decrypt it before it is applied"),
    (b"{{", UNFILLED, FILL),
    (b"${", UNFILLED, FILL),
    (b"$(", UNFILLED, FILL),
    (b"<path:", UNFILLED, FILL),
    (b"vault:", UNFILLED, FILL),
    (b"ref+", UNFILLED, FILL),
    (b"op://", UNFILLED, FILL),
    (b"{", "it is JSON", "take the PEM text out of the JSON"),
    (b"<", "it is HTML or XML", "get the file itself: a page that talks about it was saved"),
    (
        b"Certificate:",
        "it is a certificate in words, as openssl x509 -text prints it",
        "put the PEM block there as well",
    ),
    (
        b"/",
        "it is the name of a file",
        "put the content of the file there: kubectl create secret tls … --cert=FILE --key=FILE",
    ),
];

const KEYSTORE: &str =
    "take the certificates and the key out of it: keytool -importkeystore to PKCS#12, then openssl pkcs12";
const UNFILLED: &str = "it is a placeholder that nothing has filled in";
const FILL: &str = "let the tool that knows the placeholder put the PEM text there";

/// What a text is in which no PEM block is found. `None` if that cannot be told.
pub(super) fn recognise(text: &[u8]) -> Option<Form> {
    if text.trim_ascii().is_empty() {
        return None;
    }
    if let Some(thing) = thing(text) {
        return Some(Form { shape: Shape::Der, thing: Some(thing) });
    }
    // Text that begins with the digit 0 goes on with a printable character.
    if let [SEQUENCE, next, ..] = text
        && !(b' '..0x7f).contains(next)
        && !next.is_ascii_whitespace()
    {
        return Some(Form { shape: Shape::Der, thing: None });
    }
    if let Some(text) = utf16(text) {
        return Some(Form { shape: Shape::Utf16, thing: of_pem(&text) });
    }
    if let Some(form) = mended(text) {
        return Some(form);
    }
    if let Some(form) = encoded(text) {
        return Some(form);
    }
    let begins = |(beginning, ..): &&(&[u8], &str, &str)| text.trim_ascii_start().starts_with(beginning);
    let (_, words, advice) = BEGINNINGS.iter().find(begins)?;
    Some(Form { shape: Shape::Other(words, advice), thing: None })
}

/// What blocks are of which none is what should be there: a clause.
pub(super) fn instead(labels: &[Label]) -> String {
    match labels {
        [only] => format!("its only block is {only}"),
        [first, ..] => format!("none of its {} blocks is one, and the first is {first}", labels.len()),
        [] => "it has no block".to_owned(),
    }
}

/// The first block with a known label.
fn of_pem(text: &[u8]) -> Option<Thing> {
    pem::blocks(text).into_iter().find_map(|block| block.label.thing())
}

/// UTF-16 as UTF-8: by its mark, or where it would be PEM.
fn utf16(text: &[u8]) -> Option<Vec<u8>> {
    let decode = |text: &[u8], unit: fn([u8; 2]) -> u16| {
        let (units, _) = text.as_chunks::<2>();
        String::from_utf16_lossy(&units.iter().map(|bytes| unit(*bytes)).collect::<Vec<_>>()).into_bytes()
    };
    match text {
        [0xff, 0xfe, rest @ ..] => Some(decode(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => Some(decode(rest, u16::from_be_bytes)),
        [b'-', 0, ..] => Some(decode(text, u16::from_le_bytes)).filter(|text| of_pem(text).is_some()),
        [0, b'-', ..] => Some(decode(text, u16::from_be_bytes)).filter(|text| of_pem(text).is_some()),
        _ => None,
    }
}

/// One replacement.
type Step = fn(&str) -> String;

/// PEM that a few replacements make readable: the first that helps says what was wrong.
fn mended(text: &[u8]) -> Option<Form> {
    let lookalikes = strange(text).map(Shape::Lookalikes);
    let mut text = match std::str::from_utf8(text) {
        Ok(text) => text.to_owned(),
        // The no-break space of Latin-1 is the oddity that is met there.
        Err(_) => text.iter().map(|byte| char::from(*byte)).collect(),
    };
    let steps: [(Shape, Step); 5] = [
        (Shape::Lookalikes(""), plain),
        (Shape::Quoted, |text| text.trim().trim_matches(['"', '\'', '`', ',']).to_owned()),
        (Shape::LiteralBreaks, |text| text.replace("\\r\\n", "\n").replace("\\n", "\n")),
        (Shape::Markers, |text| text.lines().map(marker).collect::<Vec<_>>().join("\n")),
        (Shape::NotAtFront, |text| text.replace("-----BEGIN ", "\n-----BEGIN ")),
    ];
    for (shape, step) in steps {
        text = step(&text);
        if let Some(thing) = of_pem(text.as_bytes()) {
            // Whatever else had to be mended: where there are strange characters, they are the cause.
            return Some(Form { shape: lookalikes.unwrap_or(shape), thing: Some(thing) });
        }
    }
    None
}

/// A BEGIN or END line as it should be written; any other line as it is.
fn marker(line: &str) -> String {
    let core = line.trim().trim_matches('-').trim().to_ascii_uppercase();
    let label = core.strip_prefix("BEGIN ").or_else(|| core.strip_prefix("END "));
    match label.is_some_and(|label| LABELS.iter().any(|(known, _)| *known == label)) {
        true => format!("-----{core}-----"),
        false => line.to_owned(),
    }
}

/// Base64 of DER or of PEM, the latter several times over.
fn encoded(text: &[u8]) -> Option<Form> {
    const MOST: u8 = 4;
    let mut text = text.to_vec();
    for times in 1..=MOST {
        text.retain(|byte| !byte.is_ascii_whitespace());
        text = STANDARD.decode(&text).ok()?;
        if let Some(thing) = thing(&text) {
            return Some(Form { shape: Shape::Bare, thing: Some(thing) });
        }
        if let Some(thing) = of_pem(&text) {
            return Some(Form { shape: Shape::Encoded(times), thing: Some(thing) });
        }
    }
    None
}

/// What a DER structure is, by the tags of its parts.
pub(super) fn thing(bytes: &[u8]) -> Option<Thing> {
    let outer = der::expect(bytes, SEQUENCE)?;
    Some(match tags(outer.content).as_slice() {
        [SEQUENCE, SEQUENCE, BIT_STRING] => {
            let body = der::expect(outer.content, SEQUENCE)?;
            match tags(body.content).as_slice() {
                [VERSION, INTEGER, ..] | [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, ..] => Thing::Certificate,
                [INTEGER, SEQUENCE, SEQUENCE] | [INTEGER, SEQUENCE, SEQUENCE, VERSION] => Thing::Request,
                [INTEGER, SEQUENCE, SEQUENCE, 0x17 | 0x18, ..] | [SEQUENCE, SEQUENCE, 0x17 | 0x18, ..] => {
                    Thing::RevocationList
                }
                _ => return None,
            }
        }
        [SEQUENCE, BIT_STRING] | [INTEGER, INTEGER] => Thing::PublicKey,
        [SEQUENCE, OCTET_STRING] => Thing::EncryptedKey,
        [INTEGER, SEQUENCE, OCTET_STRING, ..]
        | [INTEGER, OCTET_STRING, ..]
        | [INTEGER, INTEGER, INTEGER, INTEGER, ..] => Thing::PrivateKey,
        [OID, VERSION] => Thing::Pkcs7,
        [INTEGER, SEQUENCE] | [INTEGER, SEQUENCE, SEQUENCE] => Thing::Pkcs12,
        _ => return None,
    })
}

/// Context tag 0, constructed: a version, attributes, or the content of PKCS#7.
const VERSION: u8 = 0xa0;

/// The tags of the first elements; empty if one of them is cut short.
fn tags(mut bytes: &[u8]) -> Vec<u8> {
    const MOST: usize = 8;
    let mut tags = Vec::new();
    while !bytes.is_empty() && tags.len() < MOST {
        let Some(element) = der::element(bytes) else { return Vec::new() };
        tags.push(element.tag);
        bytes = element.rest;
    }
    tags
}

/// Characters that people take for others, their names, and what they are taken for.
const STRANGE: &[(char, &str, &str)] = &[
    ('\u{a0}', "a no-break space (U+00A0)", " "),
    ('\u{ad}', "a soft hyphen (U+00AD)", ""),
    ('\u{2002}', "an en space (U+2002)", " "),
    ('\u{2003}', "an em space (U+2003)", " "),
    ('\u{2007}', "a figure space (U+2007)", " "),
    ('\u{2009}', "a thin space (U+2009)", " "),
    ('\u{200b}', "a zero-width space (U+200B)", ""),
    ('\u{200c}', "a zero-width character (U+200C)", ""),
    ('\u{200d}', "a zero-width character (U+200D)", ""),
    ('\u{2010}', "a hyphen that is not ASCII (U+2010)", "-"),
    ('\u{2011}', "a no-break hyphen (U+2011)", "-"),
    ('\u{2012}', "a figure dash (U+2012)", "-"),
    ('\u{2013}', "an en dash (U+2013)", "-"),
    ('\u{2014}', "an em dash (U+2014)", "--"),
    ('\u{2018}', "a typographic quotation mark (U+2018)", "'"),
    ('\u{2019}', "a typographic quotation mark (U+2019)", "'"),
    ('\u{201c}', "a typographic quotation mark (U+201C)", "\""),
    ('\u{201d}', "a typographic quotation mark (U+201D)", "\""),
    ('\u{2026}', "an ellipsis (U+2026)", ""),
    ('\u{2028}', "a line separator (U+2028)", "\n"),
    ('\u{2029}', "a paragraph separator (U+2029)", "\n"),
    ('\u{202f}', "a narrow no-break space (U+202F)", " "),
    ('\u{2060}', "a word joiner (U+2060)", ""),
    ('\u{2212}', "a minus sign (U+2212)", "-"),
    ('\u{3000}', "an ideographic space (U+3000)", " "),
    ('\u{feff}', "a byte order mark (U+FEFF)", ""),
];

/// The name of the first character that only looks like one of PEM, if there is one.
pub(super) fn strange(text: &[u8]) -> Option<&'static str> {
    if text.is_ascii() {
        return None;
    }
    let utf8 = std::str::from_utf8(text).unwrap_or_default();
    let found = utf8.chars().find_map(|character| STRANGE.iter().find(|(strange, ..)| *strange == character));
    let latin1 = utf8.is_empty() && text.contains(&0xa0);
    found.map(|(_, name, _)| *name).or(latin1.then_some("a no-break space of Latin-1 (0xA0)"))
}

/// The text with the characters that were meant.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match STRANGE.iter().find(|(strange, ..)| *strange == character) {
            Some((_, _, meant)) => plain.push_str(meant),
            None => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Base64 of `SEQUENCE { SEQUENCE {}, BIT STRING }`: a public key in shape.
    const BODY: &str = "MAUwAAMBAA==";

    fn pem(label: &str) -> String {
        format!("-----BEGIN {label}-----\n{BODY}\n-----END {label}-----\n")
    }

    #[track_caller]
    fn says(text: impl AsRef<[u8]>, expected: &str) {
        let text = text.as_ref();
        let form = recognise(text).unwrap_or_else(|| panic!("{expected}: nothing is recognised"));
        assert!(form.to_string().contains(expected), "{expected}: {form}");
        assert!(!form.advice().is_empty() && !form.advice().ends_with('.'));
    }

    #[test]
    fn each_way_to_spoil_pem_has_a_name() {
        let good = pem("CERTIFICATE");
        let utf16 = |unit: fn(u16) -> [u8; 2]| good.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        says(utf16(u16::to_le_bytes), "a certificate in UTF-16");
        says(utf16(u16::to_be_bytes), "a certificate in UTF-16");
        says([&[0xff, 0xfe][..], &utf16(u16::to_le_bytes)].concat(), "a certificate in UTF-16");
        says([0xfe, 0xff, 0, b'x'], "UTF-16 text");
        says(good.replacen(' ', "\u{a0}", 1), "a certificate with a no-break space (U+00A0)");
        says(good.replace("-----", "\u{2014}\u{2014}-"), "a certificate with an em dash (U+2014)");
        let latin1: Vec<u8> = good.bytes().map(|byte| if byte == b' ' { 0xa0 } else { byte }).collect();
        says(latin1, "a no-break space of Latin-1 (0xA0)");
        says(format!("\"{}\"", good.replace('\n', "\\n")), "a certificate in quotes");
        says(format!("'{good}'"), "a certificate in quotes");
        says(format!("\\n{}", good.replace('\n', "\\n")), "a certificate whose line breaks are written as");
        says(format!("tls.crt: {good}"), "does not begin with -----BEGIN");
        says(good.to_ascii_lowercase(), "a certificate whose BEGIN line has small letters");
        says(good.replace("-----", "----"), "not five hyphens");
        says(good.replace("-----", "------"), "not five hyphens");
        says(good.replace("-----", "---- "), "not five hyphens");
        let mut text = good;
        for times in ["in base64 twice", "in base64 3 times", "in base64 4 times", "in base64 5 times"] {
            text = STANDARD.encode(text);
            says(&text, times);
            // Whatever the length of lines.
            let wrapped: String = text.chars().flat_map(|character| [character, '\n']).collect();
            says(wrapped, times);
        }
        assert_eq!(recognise(STANDARD.encode(text).as_bytes()), None, "it is not looked at for ever");
    }

    #[test]
    fn other_texts_have_names_and_what_is_nothing_has_none() {
        for (text, words) in [
            ("<!DOCTYPE html>\n", "HTML"),
            ("  {\"certificate\": 1}", "JSON"),
            ("{{ .Values.crt }}", "placeholder"),
            ("${CRT}", "placeholder"),
            ("ssh-ed25519 AAAA", "SSH"),
            ("/etc/ssl/tls.crt", "name of a file"),
        ] {
            says(text, words);
            assert!(!recognise(text.as_bytes()).unwrap().may_be(|_| true));
        }
        says(b"\xfe\xed\xfe\xed\0", "keystore");
        for text in ["", " \n", "hello", "0123456789", "MAUwAAMBAA", "0"] {
            assert_eq!(recognise(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn der_is_told_by_its_parts() {
        let sequence = |parts: &[&[u8]]| der::sequence(&parts.concat());
        let (empty, int, octets, bits) = (sequence(&[]), [2u8, 1, 0], [4u8, 1, 0], [3u8, 1, 0]);
        let (time, context) = ([0x17u8, 1, 0], [0xa0u8, 0]);
        let signed = |body: &[&[u8]]| sequence(&[&sequence(body), &empty, &bits]);
        for (der, expected) in [
            (signed(&[&context, &int, &empty, &empty, &empty]), Some(Thing::Certificate)),
            (signed(&[&int, &empty, &empty, &empty, &empty, &empty]), Some(Thing::Certificate)),
            (signed(&[&int, &empty, &empty, &context]), Some(Thing::Request)),
            (signed(&[&int, &empty, &empty, &time, &time]), Some(Thing::RevocationList)),
            (signed(&[&empty, &empty, &time]), Some(Thing::RevocationList)),
            (signed(&[&time]), None),
            (sequence(&[&empty, &bits]), Some(Thing::PublicKey)),
            (sequence(&[&int, &int]), Some(Thing::PublicKey)),
            (sequence(&[&empty, &octets]), Some(Thing::EncryptedKey)),
            (sequence(&[&int, &empty, &octets]), Some(Thing::PrivateKey)),
            (sequence(&[&int, &octets, &context]), Some(Thing::PrivateKey)),
            (sequence(&[&int, &int, &int, &int]), Some(Thing::PrivateKey)),
            (sequence(&[&[6, 1, 0], &context]), Some(Thing::Pkcs7)),
            (sequence(&[&int, &empty, &empty]), Some(Thing::Pkcs12)),
            (sequence(&[]), None),
        ] {
            assert_eq!(thing(&der), expected);
            assert_eq!(thing(&der[..der.len() - 1]), None, "{expected:?} is cut off");
            if let Some(thing) = expected {
                says(&der, &format!("it is {} in DER, not PEM", thing.words()));
                says(STANDARD.encode(&der), "without BEGIN and END lines");
            }
        }
        // Cut off, or in the longer form of BER.
        says([0x30, 0x82, 1, 0, 7], "it is DER, not PEM");
        says([0x30, 0x80, 6, 1, 0], "it is DER, not PEM");
    }

    #[test]
    fn labels_differ_and_words_say_what_to_do() {
        for (index, (label, thing)) in LABELS.iter().enumerate() {
            assert!(LABELS[..index].iter().all(|(other, _)| other != label), "{label}");
            for advice in [thing.in_place_of_certificate(), thing.in_der()] {
                assert!(!advice.is_empty() && !advice.ends_with('.'), "{advice}");
            }
        }
    }
}
