//! An [`Offer`] to the bytes of a ClientHello: the way back from the parser.
//!
//! `Offer + Material ──message──▶ ClientHello ──records──▶ bytes for the wire`
//!
//! For those who have to say a hello that no TLS library says: `handfast probe`, and tests. Nothing here is random and no
//! key is made: what must be fresh is a parameter.

use super::{NamedServer, Offer};

/// What a hello needs beside its offer.
pub struct Material<'a> {
    /// `random`.
    pub random: [u8; 32],
    /// The session id; a hello for TLS 1.3 sends one too (RFC 8446 section D.4).
    pub session_id: &'a [u8],
    /// A key share for a group. Groups without one are left out of the list of shares, and stay in that of groups.
    pub share: &'a dyn Fn(u16) -> Option<Vec<u8>>,
}

impl Offer {
    /// The ClientHello as a handshake message, without record headers. Every value goes where the offer has it; extensions
    /// that have no value in an offer and need none go by their types. Lists that are longer than the wire allows are cut.
    pub fn message(&self, material: &Material<'_>) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend(material.random);
        body.extend(vector8(material.session_id));
        body.extend(vector16(&codes(&self.suites)));
        body.extend(vector8(&self.compressions));
        let extensions = self.encoded_extensions(material);
        if !extensions.is_empty() {
            body.extend(vector16(&extensions));
        }
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&[1], &length[1..], &body].concat()
    }

    fn encoded_extensions(&self, material: &Material<'_>) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut extension = |kind: u16, content: Vec<u8>| {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(vector16(&content));
        };
        let lists = |kind: u16| self.extensions.contains(&kind);
        let host_name = |name: &str| vector16(&[vec![0], vector16(name.as_bytes())].concat());
        match &self.server_name {
            NamedServer::Absent => {}
            NamedServer::Name(name) => extension(0, host_name(name)),
            NamedServer::Address(address) => extension(0, host_name(&address.to_string())),
            // A list that begins with a name of another type.
            NamedServer::Malformed(text) if text.is_empty() => extension(0, vector16(&[1])),
            NamedServer::Malformed(text) => extension(0, host_name(text)),
        }
        if lists(STATUS_REQUEST) {
            extension(STATUS_REQUEST, vec![1, 0, 0, 0, 0]);
        }
        if let Some(groups) = &self.groups {
            extension(10, vector16(&codes(groups)));
        }
        if !self.uncompressed_points || lists(11) {
            extension(11, vector8(&[u8::from(!self.uncompressed_points)]));
        }
        if let Some(schemes) = &self.schemes {
            extension(13, vector16(&codes(schemes)));
        }
        if let Some(alpn) = &self.alpn {
            extension(16, vector16(&alpn.iter().flat_map(|id| vector8(id)).collect::<Vec<u8>>()));
        }
        if !self.takes_x509 {
            extension(20, vector8(&[2]));
        }
        if lists(EXTENDED_MASTER_SECRET) {
            extension(EXTENDED_MASTER_SECRET, Vec::new());
        }
        if !self.certificate_compressions.is_empty() {
            extension(27, vector8(&codes(&self.certificate_compressions)));
        }
        if let Some(length) = self.session_ticket {
            extension(35, vec![3; length]);
        }
        if let Some(versions) = &self.versions {
            extension(43, vector8(&codes(versions)));
        }
        if let Some(modes) = &self.psk_modes {
            extension(45, vector8(modes));
        }
        if let Some(groups) = &self.key_shares {
            let share = |group: &u16| {
                (material.share)(*group).map(|share| [group.to_be_bytes().to_vec(), vector16(&share)].concat())
            };
            extension(51, vector16(&groups.iter().filter_map(share).flatten().collect::<Vec<u8>>()));
        }
        if lists(RENEGOTIATION_INFO) {
            extension(RENEGOTIATION_INFO, vec![0]);
        }
        // RFC 8446 section 4.2.11 wants it last.
        if let Some(psk) = &self.psk {
            let identities = (0..psk.identities).flat_map(|_| [vector16(&[5; 40]), vec![0; 4]].concat());
            let binders = (0..psk.binders).flat_map(|_| vector8(&[6; 32]));
            let content = [vector16(&identities.collect::<Vec<u8>>()), vector16(&binders.collect::<Vec<u8>>())];
            extension(41, content.concat());
        }
        extensions
    }
}

/// A handshake message in records of at most `size` bytes, whose headers name a version.
pub fn records(message: &[u8], size: usize, version: u16) -> Vec<u8> {
    let [major, minor] = version.to_be_bytes();
    message
        .chunks(size.clamp(1, 0x4000))
        .flat_map(|chunk| [vec![0x16, major, minor], vector16(chunk)].concat())
        .collect()
}

const STATUS_REQUEST: u16 = 5;
const EXTENDED_MASTER_SECRET: u16 = 23;
const RENEGOTIATION_INFO: u16 = 0xff01;

fn codes(codes: &[u16]) -> Vec<u8> {
    codes.iter().flat_map(|code| code.to_be_bytes()).collect()
}

/// Behind its length in one byte.
fn vector8(content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    [&[length], &content[..length.into()]].concat()
}

/// Behind its length in two bytes.
fn vector16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), &content[..length.into()]].concat()
}
