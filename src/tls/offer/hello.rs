//! Records to one ClientHello, and the ClientHello to an [`Offer`].

use std::net::IpAddr;

use rustls::pki_types::DnsName;

use crate::tls::bytes::Bytes;

/// What a ClientHello offers (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2), as codes of the IANA registries in the
/// order of the wire, without the values that only keep servers tolerant (GREASE, RFC 8701).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `legacy_version`: the newest version of clients that do not know `supported_versions`.
    pub legacy_version: u16,
    /// Cipher suites, signalling values (00ff, 5600) included.
    pub suites: Vec<u16>,
    /// Compression methods; 0 is none.
    pub compressions: Vec<u8>,
    /// Types of the extensions, in their order.
    pub extensions: Vec<u16>,
    /// The server that the client asks for (RFC 6066 section 3).
    pub server_name: NamedServer,
    /// `supported_versions`, if it is there.
    pub versions: Option<Vec<u16>>,
    /// `supported_groups`, if it is there.
    pub groups: Option<Vec<u16>>,
    /// The groups of the key shares, if the extension is there.
    pub key_shares: Option<Vec<u16>>,
    /// True if two key shares are for one group, which RFC 8446 section 4.2.8 forbids.
    pub repeated_shares: bool,
    /// `signature_algorithms`, if it is there.
    pub schemes: Option<Vec<u16>>,
    /// Application protocols (RFC 7301), if the extension is there.
    pub alpn: Option<Vec<Box<[u8]>>>,
    /// Pre-shared keys, which are sessions to resume (RFC 8446 section 4.2.11).
    pub psk: Option<PskOffer>,
    /// `psk_key_exchange_modes`, if it is there.
    pub psk_modes: Option<Vec<u8>>,
    /// Length of the TLS 1.2 session ticket in bytes, 0 for a client that asks for one (RFC 5077).
    pub session_ticket: Option<usize>,
    /// False if the client wants point formats other than the one that is in use (RFC 8422 section 5.1.2).
    pub uncompressed_points: bool,
    /// False if the client takes raw public keys only (RFC 7250), from us or for itself.
    pub takes_x509: bool,
    /// Algorithms for compressed certificates (RFC 8879).
    pub certificate_compressions: Vec<u16>,
}

/// The server that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedServer {
    /// None.
    Absent,
    /// A DNS name, lower case, without the dot at the end that some clients send.
    Name(Box<str>),
    /// An IP address, which is not allowed there and counts as none.
    Address(IpAddr),
    /// Something else, escaped for people, and cut where it is longer than any name; empty if the list has no host name.
    Malformed(Box<str>),
}

/// Pre-shared keys of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PskOffer {
    /// How many identities there are.
    pub identities: usize,
    /// How many binders there are; anything but one for each identity is an error.
    pub binders: usize,
}

/// Why bytes are not a ClientHello.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHello {
    /// The content type of a record is not `handshake`.
    #[error("a record of type {0} is in the place of the ClientHello")]
    OtherRecord(u8),
    /// The record's version is not one of TLS.
    #[error("a record has version {0:#06x}, which is not TLS")]
    RecordVersion(u16),
    /// The record is empty or longer than RFC 8446 section 5.1 allows.
    #[error("a record has {0} bytes")]
    RecordLength(usize),
    /// The first message is not a ClientHello.
    #[error("the first message has type {0}, not ClientHello")]
    OtherMessage(u8),
    /// The message is longer than any server accepts.
    #[error("the ClientHello has {0} bytes")]
    TooLong(usize),
    /// A message follows in the same records.
    #[error("something follows the ClientHello in its record")]
    Trailing,
    /// A part is too short, too long, or empty where it must not be.
    #[error("the {0} is malformed")]
    Malformed(&'static str),
    /// RFC 8446 section 4.2 allows an extension once.
    #[error("extension {0} is there twice")]
    RepeatedExtension(u16),
    /// RFC 8446 section 4.2.11 wants the pre-shared keys last.
    #[error("an extension follows the pre-shared keys")]
    PskNotLast,
}

/// How far reading has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All is well so far; more bytes are needed.
    Incomplete,
    /// The hello.
    Complete(Box<Offer>),
    /// It will never become one.
    Malformed(BadHello),
}

/// Longest ClientHello, without its header of four bytes: what rustls accepts.
const MAX_MESSAGE: usize = 0xffff;
/// Longest record that rustls accepts, which has room for the overhead of encryption.
const MAX_RECORD: usize = 16384 + 2048;

/// Puts a ClientHello together from whatever pieces it comes in. Holds at most one message, and no byte twice.
#[derive(Default)]
pub struct HelloReader {
    /// What came of a record header that is not complete.
    header: Vec<u8>,
    /// Bytes that the current record still has to bring.
    record: usize,
    /// The handshake message, with its header.
    message: Vec<u8>,
    /// Bytes taken so far, record headers included.
    taken: usize,
    result: Option<Result<Box<Offer>, BadHello>>,
}

impl HelloReader {
    /// Takes the next bytes. What follows the hello's last record is ignored: it may be early data.
    pub fn read(&mut self, bytes: &[u8]) -> Progress {
        match self.push(bytes) {
            Ok(false) => Progress::Incomplete,
            Ok(true) => match &self.result {
                Some(Ok(offer)) => Progress::Complete(offer.clone()),
                Some(Err(error)) => Progress::Malformed(*error),
                None => Progress::Incomplete,
            },
            Err(error) => Progress::Malformed(error),
        }
    }

    /// The same, without a copy of the offer: true if the hello is complete, so that
    /// [`into_offer`](HelloReader::into_offer) has it.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<bool, BadHello> {
        let before = bytes.len();
        while self.result.is_none() && !bytes.is_empty() {
            if let Err(error) = self.take(&mut bytes) {
                self.result = Some(Err(error));
            }
        }
        self.taken += before - bytes.len();
        match &self.result {
            None => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(error)) => Err(*error),
        }
    }

    /// Bytes that have been taken, with record headers: the size of the hello once it is complete.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// The offer, if the hello is complete.
    pub fn into_offer(self) -> Option<Box<Offer>> {
        self.result.and_then(Result::ok)
    }

    /// Takes a part of a header or of a record's content.
    fn take(&mut self, bytes: &mut &[u8]) -> Result<(), BadHello> {
        if self.record == 0 {
            let (part, rest) = bytes.split_at(bytes.len().min(5 - self.header.len()));
            self.header.extend_from_slice(part);
            *bytes = rest;
            let [kind, major, minor, high, low] = self.header[..] else { return Ok(()) };
            let length = usize::from(u16::from_be_bytes([high, low]));
            match (kind, major) {
                (0x16, 0x03) => {}
                (0x16, _) => return Err(BadHello::RecordVersion(u16::from_be_bytes([major, minor]))),
                (other, _) => return Err(BadHello::OtherRecord(other)),
            }
            if length == 0 || length > MAX_RECORD {
                return Err(BadHello::RecordLength(length));
            }
            self.header.clear();
            self.record = length;
            return Ok(());
        }
        let (part, rest) = bytes.split_at(bytes.len().min(self.record));
        *bytes = rest;
        self.record -= part.len();
        // The length is known from the first four bytes on, so never more than one message is kept.
        self.message.extend_from_slice(part);
        match self.message[..] {
            [kind, ..] if kind != 0x01 => return Err(BadHello::OtherMessage(kind)),
            [_, high, middle, low, ref body @ ..] => {
                let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                if length > MAX_MESSAGE {
                    return Err(BadHello::TooLong(length));
                }
                if body.len() > length {
                    return Err(BadHello::Trailing);
                }
                if body.len() == length {
                    if self.record > 0 {
                        return Err(BadHello::Trailing);
                    }
                    self.result = Some(Ok(Box::new(Offer::of_body(body)?)));
                    self.message = Vec::new();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Offer {
    /// The offer in the records that a connection begins with; `None` if they are not complete.
    pub fn parse(records: &[u8]) -> Result<Option<Offer>, BadHello> {
        let mut reader = HelloReader::default();
        reader.push(records)?;
        Ok(reader.into_offer().map(|offer| *offer))
    }

    /// The newest version that the client offers, whether or not it can be served.
    pub fn newest_version(&self) -> u16 {
        let listed = self.versions.iter().flatten().copied().max();
        listed.unwrap_or(self.legacy_version)
    }

    /// True if the client has a session that it wants to resume (RFC 8446 section 2.2, RFC 5077 section 3.1).
    pub fn asks_to_resume(&self) -> bool {
        self.psk.is_some() || self.session_ticket.is_some_and(|length| length > 0)
    }

    /// Cuts lists that are longer than those of real clients, the longest of which has some 200 suites: a hello of 64 KiB
    /// may name 30,000 application protocols, and would take a megabyte for as long as it is kept.
    pub fn shorten(&mut self) {
        const CODES: usize = 256;
        const PROTOCOLS: usize = 16;
        let lists = [&mut self.versions, &mut self.groups, &mut self.key_shares, &mut self.schemes];
        let further = [&mut self.suites, &mut self.extensions, &mut self.certificate_compressions];
        for list in lists.into_iter().flatten().chain(further) {
            list.truncate(CODES);
            list.shrink_to_fit();
        }
        for list in [Some(&mut self.compressions), self.psk_modes.as_mut()].into_iter().flatten() {
            list.truncate(CODES);
            list.shrink_to_fit();
        }
        if let Some(protocols) = &mut self.alpn {
            protocols.retain(|id| id.len() <= 32);
            protocols.truncate(PROTOCOLS);
            protocols.shrink_to_fit();
        }
    }

    /// The offer of a ClientHello without its header.
    fn of_body(body: &[u8]) -> Result<Self, BadHello> {
        let mut rest = Bytes(body);
        let legacy_version = rest.u16().ok_or(BadHello::Malformed("version"))?;
        rest.take(32).ok_or(BadHello::Malformed("random"))?;
        rest.vector8().filter(|id| id.0.len() <= 32).ok_or(BadHello::Malformed("session id"))?;
        let suites = rest.vector16().and_then(Bytes::codes).filter(|suites| !suites.is_empty());
        let mut suites = suites.ok_or(BadHello::Malformed("list of cipher suites"))?;
        drop_grease(&mut suites);
        let compressions = rest.vector8().filter(|methods| !methods.0.is_empty());
        let compressions = compressions.ok_or(BadHello::Malformed("list of compression methods"))?.0.to_vec();
        let mut offer = Offer {
            legacy_version,
            suites,
            compressions,
            extensions: Vec::new(),
            server_name: NamedServer::Absent,
            versions: None,
            groups: None,
            key_shares: None,
            repeated_shares: false,
            schemes: None,
            alpn: None,
            psk: None,
            psk_modes: None,
            session_ticket: None,
            uncompressed_points: true,
            takes_x509: true,
            certificate_compressions: Vec::new(),
        };
        if rest.0.is_empty() {
            return Ok(offer);
        }
        let mut extensions = rest.vector16().ok_or(BadHello::Malformed("list of extensions"))?;
        if !rest.0.is_empty() {
            return Err(BadHello::Malformed("end of the ClientHello"));
        }
        while !extensions.0.is_empty() {
            let extension = extensions.u16().zip(extensions.vector16());
            let (kind, content) = extension.ok_or(BadHello::Malformed("list of extensions"))?;
            offer.extensions.push(kind);
            offer.extend(kind, content)?;
            if kind == PRE_SHARED_KEY && !extensions.0.is_empty() {
                return Err(BadHello::PskNotLast);
            }
        }
        if let Some(kind) = repeated(&offer.extensions) {
            return Err(BadHello::RepeatedExtension(kind));
        }
        drop_grease(&mut offer.extensions);
        Ok(offer)
    }

    fn extend(&mut self, kind: u16, mut content: Bytes<'_>) -> Result<(), BadHello> {
        let malformed = BadHello::Malformed;
        // A list of two-byte codes behind its length, with nothing behind it.
        let codes = |list: Option<Bytes<'_>>, rest: &Bytes<'_>, name| {
            let codes = list.and_then(Bytes::codes).filter(|codes| !codes.is_empty() && rest.0.is_empty());
            let mut codes = codes.ok_or(malformed(name))?;
            drop_grease(&mut codes);
            Ok(codes)
        };
        match kind {
            SERVER_NAME => {
                let list = content.vector16().filter(|_| content.0.is_empty());
                self.server_name = list.and_then(server_name).ok_or(malformed("server name"))?;
            }
            SUPPORTED_VERSIONS => {
                let list = content.vector8();
                self.versions = Some(codes(list, &content, "list of versions")?);
            }
            SUPPORTED_GROUPS => {
                let list = content.vector16();
                self.groups = Some(codes(list, &content, "list of groups")?);
            }
            SIGNATURE_ALGORITHMS => {
                let list = content.vector16();
                self.schemes = Some(codes(list, &content, "list of signature algorithms")?);
            }
            COMPRESS_CERTIFICATE => {
                let list = content.vector8();
                self.certificate_compressions = codes(list, &content, "list of certificate compressions")?;
            }
            KEY_SHARE => {
                let shares = content.vector16().filter(|_| content.0.is_empty());
                let mut groups = shares.and_then(key_shares).ok_or(malformed("list of key shares"))?;
                self.repeated_shares = repeated(&groups).is_some();
                drop_grease(&mut groups);
                self.key_shares = Some(groups);
            }
            ALPN => {
                let list = content.vector16().filter(|_| content.0.is_empty());
                let mut protocols = list.and_then(protocols).ok_or(malformed("list of application protocols"))?;
                protocols.retain(|id| !matches!(id[..], [high, low] if is_grease(u16::from_be_bytes([high, low]))));
                self.alpn = Some(protocols);
            }
            PRE_SHARED_KEY => self.psk = Some(psk(content).ok_or(malformed("list of pre-shared keys"))?),
            PSK_MODES => {
                let modes = content.vector8().filter(|modes| !modes.0.is_empty() && content.0.is_empty());
                self.psk_modes = Some(modes.ok_or(malformed("list of pre-shared key modes"))?.0.to_vec());
            }
            SESSION_TICKET => self.session_ticket = Some(content.0.len()),
            POINT_FORMATS => {
                let formats = content.vector8().filter(|formats| !formats.0.is_empty() && content.0.is_empty());
                let formats = formats.ok_or(malformed("list of point formats"))?;
                self.uncompressed_points = formats.0.contains(&0);
            }
            CLIENT_CERTIFICATE_TYPE | SERVER_CERTIFICATE_TYPE => {
                let types = content.vector8().filter(|types| !types.0.is_empty() && content.0.is_empty());
                let types = types.ok_or(malformed("list of certificate types"))?.0;
                // A list with types that nobody knows is passed over; one with raw keys and no X.509 is a demand.
                self.takes_x509 &= types.contains(&0) || !types.contains(&2);
            }
            // Everything else has no part in what is agreed on; the TLS library judges it.
            _ => {}
        }
        Ok(())
    }
}

const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const CLIENT_CERTIFICATE_TYPE: u16 = 19;
const SERVER_CERTIFICATE_TYPE: u16 = 20;
const COMPRESS_CERTIFICATE: u16 = 27;
const SESSION_TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;
const SUPPORTED_VERSIONS: u16 = 43;
const PSK_MODES: u16 = 45;
const KEY_SHARE: u16 = 51;

/// RFC 8701: both bytes equal, with low half a.
fn is_grease(code: u16) -> bool {
    code & 0x0f0f == 0x0a0a && code >> 8 == code & 0xff
}

fn drop_grease(codes: &mut Vec<u16>) {
    codes.retain(|code| !is_grease(*code));
}

/// The one host name of a list; a name of another type ends it, because its length is unknown.
fn server_name(mut list: Bytes<'_>) -> Option<NamedServer> {
    let mut found = None;
    while !list.0.is_empty() {
        if list.u8()? != 0 {
            break;
        }
        let name = list.vector16().filter(|name| !name.0.is_empty())?.0;
        if found.is_some() {
            return None;
        }
        let text = std::str::from_utf8(name).unwrap_or_default();
        found = Some(match DnsName::try_from(name) {
            Ok(name) => {
                let name = name.to_lowercase_owned();
                let name = name.as_ref();
                NamedServer::Name(name.strip_suffix('.').unwrap_or(name).into())
            }
            Err(_) => match text.parse() {
                Ok(address) => NamedServer::Address(address),
                Err(_) => NamedServer::Malformed(shown(name)),
            },
        });
    }
    Some(found.unwrap_or_else(|| NamedServer::Malformed("".into())))
}

/// Bytes that a client has chosen, for people: letters, digits and what is printed of ASCII as they are, all else escaped.
fn shown(bytes: &[u8]) -> Box<str> {
    /// Bytes; a name has 253 at most (RFC 1035 section 2.3.4).
    const MOST: usize = 255;
    let mut text = String::new();
    for chunk in bytes[..bytes.len().min(MOST)].utf8_chunks() {
        for c in chunk.valid().chars() {
            let is_plain = c == ' ' || (c.is_ascii_graphic() && c != '\\') || (!c.is_ascii() && c.is_alphanumeric());
            if is_plain { text.push(c) } else { text.extend(c.escape_default()) }
        }
        text.extend(chunk.invalid().iter().flat_map(|byte| byte.escape_ascii()).map(char::from));
    }
    if bytes.len() > MOST {
        text.push('…');
    }
    text.into()
}

/// A code that is there twice. Sorted, because a list can be long enough for its square to matter.
fn repeated(codes: &[u16]) -> Option<u16> {
    let mut sorted = codes.to_vec();
    sorted.sort_unstable();
    sorted.array_windows().find(|[one, next]| one == next).map(|[code, _]| *code)
}

fn key_shares(mut shares: Bytes<'_>) -> Option<Vec<u16>> {
    let mut groups = Vec::new();
    while !shares.0.is_empty() {
        groups.push(shares.u16()?);
        shares.vector16()?;
    }
    Some(groups)
}

fn protocols(mut list: Bytes<'_>) -> Option<Vec<Box<[u8]>>> {
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.vector8().filter(|id| !id.0.is_empty())?.0.into());
    }
    Some(protocols).filter(|protocols| !protocols.is_empty())
}

fn psk(mut content: Bytes<'_>) -> Option<PskOffer> {
    let (mut identities, mut binders) = (content.vector16()?, content.vector16()?);
    let mut offer = PskOffer { identities: 0, binders: 0 };
    while !identities.0.is_empty() {
        identities.vector16()?;
        identities.take(4)?;
        offer.identities += 1;
    }
    while !binders.0.is_empty() {
        binders.vector8()?;
        offer.binders += 1;
    }
    Some(offer).filter(|offer| content.0.is_empty() && offer.identities > 0 && offer.binders > 0)
}
