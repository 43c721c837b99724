//! The fuzz targets, replayed: where they begin, and what they found.
//!
//! `seeds ──make fuzz──▶ target/fuzz ──make corpus──▶ fuzz/corpus/TARGET`
//!
//! The bodies are here and not in `fuzz/`, so that ordinary tests run them, on a stable toolchain and without a fuzzer.

mod admission;
mod driver;
mod hello;

use std::path::{Path, PathBuf};

use handfast::tls::clients::{client, clients};
use handfast::tls::offer::{Offer, PskOffer};

use crate::hellos::{message, records};
use driver::{CLIENTS, NAMES, step, switch};

/// Inputs by name.
type Seeds = Vec<(String, Vec<u8>)>;

fn hello_seeds() -> Seeds {
    let mut seeds: Seeds =
        clients().iter().map(|client| (client.id.into(), records(&message(&client.offer), 16384))).collect();
    let chrome = &client("chrome-150").unwrap().offer;
    let full = Offer {
        session_ticket: Some(20),
        psk: Some(PskOffer { identities: 2, binders: 2 }),
        psk_modes: Some(vec![1]),
        ..chrome.clone()
    };
    let mut grease = full.clone();
    grease.suites.insert(0, 0x3a3a);
    for list in [&mut grease.versions, &mut grease.groups, &mut grease.schemes, &mut grease.key_shares] {
        list.as_mut().unwrap().insert(0, 0xdada);
    }
    let whole = records(&message(&full), 16384);
    let many = |count: u16| (0x2000..0x2000 + count).collect::<Vec<u16>>();
    let mut add = |name: &str, bytes: Vec<u8>| seeds.push((name.into(), bytes));
    add("grease", records(&message(&grease), 16384));
    add("tiny-records", records(&message(&grease), 3));
    add("early-data", [&whole[..], b"\x17\x03\x03\x00\x05early"].concat());
    add("two-messages", records(&[message(&full), vec![1, 0, 0, 1, 0]].concat(), 16384));
    add("cut", whole[..whole.len() / 2].to_vec());
    add("long-tail", [whole.clone(), vec![0; 90]].concat());
    add("repeated-shares", records(&message(&Offer { key_shares: Some(vec![29, 29]), ..full.clone() }), 16384));
    add("raw-keys", records(&message(&Offer { takes_x509: false, ..full.clone() }), 16384));
    add("compressed-points", records(&message(&Offer { uncompressed_points: false, ..full.clone() }), 16384));
    add("many-suites", records(&message(&Offer { suites: many(2000), ..full.clone() }), 16384));
    add("many-shares", records(&message(&Offer { key_shares: Some(many(900)), ..full.clone() }), 16384));
    add("unequal-binders", {
        let psk = Some(PskOffer { identities: 2, binders: 1 });
        records(&message(&Offer { psk, ..full.clone() }), 16384)
    });
    let others: [(&str, &[u8]); 9] = [
        ("nothing", b""),
        ("http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("proxy", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        ("proxy2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"),
        ("ssh", b"SSH-2.0-x\r\n"),
        ("sslv2", b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"),
        ("alert", b"\x15\x03\x01\x00\x02\x02\x30"),
        ("oversized-record", b"\x16\x03\x01\xff\xff\x01\x00\x00\x10"),
    ];
    others.iter().for_each(|(name, bytes)| add(name, bytes.to_vec()));
    seeds
}

fn driver_seeds() -> Seeds {
    use step::{
        BROKEN, BYTES, CHANGE, CLOSE, CUT, DATA, END, FLIGHT, LATER, LOSE, PIECES, RESET, SILENCE, SLOW, STUCK, UPDATE,
    };
    let mut seeds = Seeds::new();
    let number = |index: usize| u8::try_from(index).unwrap();
    let good = switch::GO_ON;
    // Every client at every host, in good order.
    for client in 0..CLIENTS {
        for (index, name) in NAMES.iter().enumerate() {
            let seed = vec![number(client), number(index), good, DATA, 20];
            seeds.push((format!("client-{client}-{name}"), seed));
        }
    }
    let scripts: &[(&str, u8, &[u8])] = &[
        ("nothing", 0, &[]),
        ("silence", 0, &[SILENCE]),
        ("reset", 0, &[RESET]),
        ("pieces", good, &[PIECES, 0, LATER, PIECES, 200]),
        ("cut-hello", 0, &[CUT, 0, 90]),
        ("cut-hello-reset", 0, &[CUT, 0, 90, RESET]),
        ("cut-hello-silence", 0, &[CUT, 0, 90, SILENCE]),
        ("changed-hello", good, &[CHANGE, 0, 60, 1]),
        ("changed-finished", good, &[FLIGHT, CHANGE, 0, 30, 1]),
        ("lost", good, &[FLIGHT, LOSE, SILENCE]),
        ("end-after-certificate", 0, &[FLIGHT, END]),
        ("reset-after-certificate", 0, &[FLIGHT, RESET]),
        ("silence-after-certificate", 0, &[FLIGHT, SILENCE]),
        ("half-finished", 0, &[FLIGHT, CUT, 0, 20, END]),
        ("cancelled", good, &[FLIGHT, CLOSE]),
        ("stuck", good, &[FLIGHT, STUCK]),
        ("stuck-at-once", good, &[STUCK, FLIGHT]),
        ("broken", good, &[BROKEN, FLIGHT]),
        ("broken-later", good, &[FLIGHT, BROKEN]),
        ("slow", good, &[SLOW, 3, FLIGHT]),
        ("alert", 0, &[FLIGHT, BYTES, 0, 7, 0x15, 3, 3, 0, 2, 2, 48]),
        ("warning", good, &[FLIGHT, BYTES, 0, 7, 0x15, 3, 3, 0, 2, 1, 90]),
        ("early-data", good, &[FLIGHT, BYTES, 0, 9, 0x17, 3, 3, 0, 4, 1, 2, 3, 4]),
        ("early-finished", 0, &[FLIGHT, BYTES, 0, 9, 0x16, 3, 3, 0, 4, 20, 0, 0, 0]),
        ("change-cipher-spec", good, &[FLIGHT, BYTES, 0, 6, 0x14, 3, 3, 0, 1, 1]),
        ("long-record", 0, &[FLIGHT, BYTES, 0, 5, 0x16, 3, 3, 0xff, 0xff]),
        ("requests", good, &[FLIGHT, FLIGHT, DATA, 100, FLIGHT, UPDATE, FLIGHT, DATA, 10, FLIGHT, CLOSE, FLIGHT]),
    ];
    for (name, switches, script) in scripts {
        for (client, host) in [(0, 0), (1, 0), (2, 4), (5, 5), (6, 6)] {
            let seed = [&[client, host, *switches], *script].concat();
            seeds.push((format!("{name}-{client}"), seed));
        }
    }
    for switches in [switch::RESUME, switch::DEFAULT_CERTIFICATE, switch::READ_AHEAD] {
        for client in [0, 1, 2] {
            for host in [0, 3, 8, 9, 10, 11] {
                seeds.push((format!("switch-{switches}-{client}-{host}"), vec![client, host, switches | good, FLIGHT]));
            }
        }
    }
    for (name, bytes) in hello_seeds() {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        let seed = [&[number(CLIENTS), 0, 0, BYTES], &length[..], &bytes, &[END]].concat();
        seeds.push((format!("bytes-{name}"), seed));
    }
    seeds
}

fn admission_seeds() -> Seeds {
    use admission::{TEMPLATES, WORDS, edit, mode, switch};
    let number = |index: usize| u8::try_from(index).unwrap();
    let mut seeds = Seeds::new();
    for template in 0..TEMPLATES {
        for switches in [0, switch::UPDATE, switch::DELETE, switch::DENY, switch::DENY | switch::UPDATE] {
            let seed = vec![mode::OBJECT, number(template), switches];
            seeds.push((format!("template-{template}-{switches}"), seed));
        }
        for (index, _) in WORDS.iter().enumerate() {
            // Somewhere in the specification or the data.
            let place = u16::try_from(100 + 13 * index).unwrap().to_be_bytes();
            let edits = [edit::STRING, place[0], place[1], number(index)];
            let seed = [&[mode::OBJECT, number(template), switch::DENY], &edits[..]].concat();
            seeds.push((format!("word-{template}-{index}"), seed));
        }
        let edits = [edit::REPEAT, 1, 40, 200, edit::BYTE, 0, 200, b',', edit::CUT, 0, 90, 30];
        seeds.push((format!("edits-{template}"), [&[mode::OBJECT, number(template), 0], &edits[..]].concat()));
    }
    let bodies: [(&str, &str); 6] = [
        ("nothing", ""),
        ("list", "[]"),
        ("deep", "[[[[[[[[[[[[[[[["),
        ("other-version", r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{}}"#),
        (
            "connect",
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Secret"},"operation":"CONNECT"}}"#,
        ),
        (
            "no-object",
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Secret"},"operation":"CREATE"}}"#,
        ),
    ];
    for (name, body) in bodies {
        seeds.push((name.into(), [&[mode::BODY], body.as_bytes()].concat()));
    }
    seeds
}

/// What the fuzzer found, kept small.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs a target on all that is kept for it. A finding names its input.
fn replay(target: &str, run: fn(&[u8]), seeds: Seeds) {
    let files = corpus(target);
    assert!(files.len() > 50, "fuzz/corpus/{target} is not where this test looks");
    let kept = files.into_iter().map(|file| (file.display().to_string(), std::fs::read(file).unwrap()));
    let mut size = 0;
    for (name, bytes) in seeds.into_iter().chain(kept) {
        size += bytes.len();
        assert!(std::panic::catch_unwind(|| run(&bytes)).is_ok(), "the input is {name}");
    }
    assert!(size < 2_000_000, "{size} bytes for {target}: keep less");
}

#[test]
fn any_bytes_may_be_the_beginning_of_a_connection() {
    replay("hello", hello::run, hello_seeds());
}

#[test]
fn any_client_leads_to_one_outcome() {
    replay("driver", driver::run, driver_seeds());
}

#[test]
fn any_review_is_answered() {
    replay("admission", admission::run, admission_seeds());
}

/// `make fuzz` begins with these: it names the folder.
#[test]
fn seeds_have_names_of_their_own() {
    for (target, seeds) in [("hello", hello_seeds()), ("driver", driver_seeds()), ("admission", admission_seeds())] {
        let names: std::collections::BTreeSet<&String> = seeds.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), seeds.len());
        if let Some(folder) = std::env::var_os("HANDFAST_FUZZ_SEEDS") {
            let folder = Path::new(&folder).join(target);
            std::fs::create_dir_all(&folder).unwrap();
            for (name, bytes) in &seeds {
                std::fs::write(folder.join(name), bytes).unwrap();
            }
        }
    }
}
