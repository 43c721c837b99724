//! ClientHellos made from offers, for the parser and for the model; and the parser itself.

use handfast::tls::offer::{BadHello, HelloReader, Material, NamedServer, Offer, Progress};
use handfast::tls::policy::Group;
use proptest::prelude::*;
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::server::Acceptor;
use std::sync::{Arc, LazyLock};

/// A key share that the group's code goes with.
pub fn share(code: u16) -> Vec<u8> {
    static SHARES: LazyLock<Vec<(u16, Vec<u8>)>> = LazyLock::new(|| {
        aws_lc_rs::ALL_KX_GROUPS
            .iter()
            .map(|group: &&dyn SupportedKxGroup| (group.name().into(), group.start().unwrap().pub_key().to_vec()))
            .collect()
    });
    // Groups that nobody here has are never looked into.
    SHARES.iter().find(|(group, _)| *group == code).map_or(vec![7], |(_, share)| share.clone())
}

/// The ClientHello that offers this, without record headers. GREASE goes wherever the offer has it.
pub fn message(offer: &Offer) -> Vec<u8> {
    offer.message(&Material { random: [7; 32], session_id: &[9; 32], share: &|group| Some(share(group)) })
}

/// A message in records of at most `size` bytes.
pub fn records(message: &[u8], size: usize) -> Vec<u8> {
    handfast::tls::offer::records(message, size, 0x0301)
}

/// What the offer looks like when it has been read back.
pub fn read_back(offer: &Offer) -> Offer {
    let grease = |code: &u16| code & 0x0f0f == 0x0a0a && code >> 8 == code & 0xff;
    let mut offer = offer.clone();
    offer.suites.retain(|code| !grease(code));
    for list in
        [&mut offer.versions, &mut offer.groups, &mut offer.schemes, &mut offer.key_shares].into_iter().flatten()
    {
        list.retain(|code| !grease(code));
    }
    offer
}

/// Whether rustls takes the bytes for a complete ClientHello.
fn rustls_accepts(bytes: &[u8]) -> bool {
    let mut acceptor = Acceptor::default();
    let mut unread = bytes;
    loop {
        let taken = acceptor.read_tls(&mut unread).unwrap_or(0);
        match acceptor.accept() {
            Ok(Some(_)) => return true,
            Ok(None) if taken > 0 => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

/// The hello of a real client: rustls with everything on.
fn real_hello() -> Vec<u8> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = "Shop.Example".try_into().unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

fn full_offer() -> Offer {
    let mut offer = handfast::tls::clients::client("chrome-150").unwrap().offer.clone();
    offer.session_ticket = Some(20);
    offer.psk = Some(handfast::tls::offer::PskOffer { identities: 2, binders: 2 });
    offer
}

#[test]
fn a_real_hello_is_read_completely() {
    let offer = Offer::parse(&real_hello()).unwrap().unwrap();
    assert_eq!(offer.legacy_version, 0x0303);
    assert_eq!(offer.versions, Some(vec![0x0304, 0x0303]));
    assert_eq!(offer.server_name, NamedServer::Name("shop.example".into()));
    assert_eq!(offer.groups, Some(vec![0x11ec, 0x001d, 0x0017, 0x0018]));
    assert_eq!(offer.key_shares, Some(vec![0x11ec, 0x001d]));
    assert_eq!(offer.alpn, Some(vec![(*b"h2").into(), (*b"http/1.1").into()]));
    assert_eq!(offer.compressions, [0]);
    assert_eq!(offer.suites.len(), 10);
    assert!(offer.psk.is_none() && offer.uncompressed_points && offer.takes_x509 && !offer.repeated_shares);
}

#[test]
fn grease_is_dropped_everywhere() {
    let mut offer = full_offer();
    offer.suites.insert(0, 0x3a3a);
    for list in [&mut offer.versions, &mut offer.groups, &mut offer.schemes, &mut offer.key_shares] {
        list.as_mut().unwrap().insert(0, 0xdada);
    }
    let mut bytes = message(&offer);
    // An extension of a GREASE type in front, by hand.
    let at = bytes.windows(4).position(|window| window == [0, 0, 0, 19]).unwrap();
    bytes.splice(at..at, [0x0a, 0x0a, 0, 1, 0]);
    let extensions = u16::from_be_bytes([bytes[at - 2], bytes[at - 1]]) + 5;
    bytes[at - 2..at].copy_from_slice(&extensions.to_be_bytes());
    let length = u32::try_from(bytes.len() - 4).unwrap().to_be_bytes();
    bytes[1..4].copy_from_slice(&length[1..]);
    let read = Offer::parse(&records(&bytes, 16384)).unwrap().unwrap();
    let greasy = Offer { extensions: read.extensions.clone(), ..offer };
    assert!(!read.extensions.contains(&0x0a0a));
    assert_eq!(read, read_back(&greasy));
}

#[test]
fn what_is_not_a_hello_says_what_is_wrong() {
    let whole = records(&message(&full_offer()), 16384);
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        Offer::parse(&bytes).unwrap_err()
    };
    assert_eq!(changed(0, 0x17), BadHello::OtherRecord(0x17));
    assert_eq!(changed(1, 0x02), BadHello::RecordVersion(0x0201));
    assert_eq!(changed(5, 0x02), BadHello::OtherMessage(2));
    assert_eq!(changed(6, 0x01), BadHello::TooLong(0x1_0000 + whole.len() - 9));
    assert_eq!(Offer::parse(&[0x16, 3, 1, 0, 0]).unwrap_err(), BadHello::RecordLength(0));
    assert_eq!(Offer::parse(&[0x16, 3, 1, 0xff, 0xff]).unwrap_err(), BadHello::RecordLength(0xffff));
    let mut twice = message(&full_offer());
    twice.push(1);
    assert_eq!(Offer::parse(&records(&twice, 16384)).unwrap_err(), BadHello::Trailing);
    assert_eq!(changed(43, 33), BadHello::Malformed("session id"));
}

#[test]
fn repeated_shares_and_repeated_extensions_are_noticed() {
    let mut offer = full_offer();
    offer.key_shares = Some(vec![0x001d, 0x001d]);
    assert!(Offer::parse(&records(&message(&offer), 16384)).unwrap().unwrap().repeated_shares);
    let bytes = message(&Offer { server_name: NamedServer::Absent, versions: None, ..full_offer() });
    let mut text = bytes.clone();
    // The type of the groups' extension becomes that of the signature algorithms.
    let at = text.windows(2).position(|window| window == [0, 10]).unwrap();
    text[at + 1] = 13;
    assert_eq!(Offer::parse(&records(&text, 16384)).unwrap_err(), BadHello::RepeatedExtension(13));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_and_records_of_any_size_make_the_same_offer(record in 1_usize..3000, pieces in prop::collection::vec(1_usize..700, 1..40)) {
        let offer = full_offer();
        let bytes = records(&message(&offer), record);
        let whole = Offer::parse(&bytes).unwrap().unwrap();
        let mut reader = HelloReader::default();
        let mut rest = &bytes[..];
        let mut pieces = pieces.iter().cycle();
        let mut progress = Progress::Incomplete;
        while !rest.is_empty() {
            prop_assert_eq!(&progress, &Progress::Incomplete);
            let (piece, after) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
            progress = reader.read(piece);
            rest = after;
        }
        prop_assert_eq!(&progress, &Progress::Complete(Box::new(whole.clone())));
        // Early data behind the hello changes nothing.
        prop_assert_eq!(reader.read(b"\x17\x03\x03\x00\x01x"), progress);
        prop_assert_eq!(Offer { extensions: Vec::new(), ..whole }, Offer { extensions: Vec::new(), ..offer });
    }

    #[test]
    fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), header in any::<bool>()) {
        let bytes = if header { records(&[vec![1, 0, 0, 200], bytes].concat(), 16384) } else { bytes };
        let whole = Offer::parse(&bytes);
        let mut reader = HelloReader::default();
        for byte in &bytes {
            reader.read(std::slice::from_ref(byte));
        }
        let byte_by_byte = match reader.read(&[]) {
            Progress::Incomplete => Ok(None),
            Progress::Complete(offer) => Ok(Some(*offer)),
            Progress::Malformed(error) => Err(error),
        };
        prop_assert_eq!(whole, byte_by_byte);
    }

    #[test]
    fn what_rustls_accepts_has_an_offer(
        real in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut bytes = if real { real_hello() } else { records(&message(&full_offer()), 500) };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let ours = Offer::parse(&bytes);
        if rustls_accepts(&bytes) {
            prop_assert!(matches!(ours, Ok(Some(_))), "{:?}", ours);
        }
        if let Ok(Some(offer)) = ours {
            prop_assert_eq!(offer.ja4().len(), 36);
        }
    }
}

#[test]
fn every_group_has_a_share_of_its_own() {
    for group in Group::ALL {
        assert!(share(group.code()).len() > 30, "{group}");
    }
}

#[test]
fn what_is_kept_of_an_offer_is_short_and_real_offers_are_kept_whole() {
    for client in handfast::tls::clients::clients() {
        let mut kept = client.offer.clone();
        kept.shorten();
        assert_eq!(kept, client.offer, "{}", client.id);
    }
    let many = |count: u16| (0..count).collect::<Vec<u16>>();
    let mut offer = Offer {
        suites: many(30_000),
        key_shares: Some(many(15_000)),
        alpn: Some(vec![(*b"a").into(); 30_000]),
        compressions: vec![0; 255],
        ..full_offer()
    };
    offer.alpn.as_mut().unwrap().insert(0, vec![b'x'; 255].into());
    offer.shorten();
    let codes = offer.suites.len() + offer.key_shares.as_ref().unwrap().len();
    let bytes: usize = offer.alpn.as_ref().unwrap().iter().map(|id| id.len()).sum();
    assert!(codes <= 512 && bytes <= 512 && offer.alpn.unwrap().capacity() <= 64, "{codes} {bytes}");
}
