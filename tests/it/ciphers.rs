//! Cipher lists against the openssl binary, which is asked at test time what it makes of them.

use handfast::tls::Version;
use handfast::tls::ciphers::{Unserved, expand, known_suites};
use handfast::tls::policy::parse::{ParseError, Unavailable, Why, parse_ciphers, parse_groups, parse_versions};
use handfast::tls::policy::{Group, Policy, Settings, Suite, SuiteOrder};
use proptest::prelude::*;

use crate::binary::program;

/// What OpenSSL makes of a list up to TLS 1.2; `None` if it refuses the list.
fn openssl(list: &str) -> Option<Vec<String>> {
    // The program takes a hyphen in front for an option; an empty command before it changes nothing.
    let list = if list.starts_with('-') { format!(":{list}") } else { list.to_owned() };
    let output = program("openssl").args(["ciphers", &list]).output().unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    // TLS 1.3 suites have a list of their own.
    let names = names.trim().split(':').filter(|name| !name.starts_with("TLS_")).map(str::to_owned);
    output.status.success().then(|| names.collect())
}

/// The same of ours.
fn ours(list: &str) -> Option<Vec<String>> {
    let suites = expand(list, &[]).ok()?.suites;
    (!suites.is_empty()).then(|| suites.iter().map(|suite| suite.openssl.to_owned()).collect())
}

fn same(list: &str) {
    assert_eq!(ours(list), openssl(list), "{list:?}");
}

const LISTS: &[&str] = &[
    "HIGH:!aNULL:!MD5",
    "DEFAULT",
    "DEFAULT:!aNULL",
    "DEFAULT:@SECLEVEL=2",
    "DEFAULT@SECLEVEL=0",
    "DEFAULT:ADH",
    "DEFAULT:eNULL",
    "HIGH:DEFAULT",
    "DEFAULTS",
    "ALL",
    "ALL:COMPLEMENTOFALL",
    "ALL:COMPLEMENTOFALL:@STRENGTH",
    "COMPLEMENTOFDEFAULT",
    "COMPLEMENTOFALL",
    "ALL:!COMPLEMENTOFDEFAULT:!eNULL",
    "eNULL",
    "NULL",
    "aNULL",
    "aNULL:!aNULL",
    "HIGH",
    "MEDIUM",
    "LOW",
    "HIGH:MEDIUM:!LOW:!EXP:!RC4:!3DES",
    "FIPS:!kRSA",
    "ECDHE+AESGCM",
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL",
    "EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH",
    "EECDH+CHACHA20:EECDH+AES128:RSA+AES128:EECDH+AES256:RSA+AES256:EECDH+3DES:RSA+3DES:!MD5",
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256,AES128-SHA;AES256-SHA DHE-RSA-AES128-SHA",
    ":::ECDHE::",
    "kRSA",
    "aRSA",
    "RSA",
    "kEDH:kDHE:DH",
    "EDH",
    "DHE",
    "kEECDH:kECDHE:ECDH",
    "EECDH",
    "ECDHE",
    "aECDSA",
    "ECDSA",
    "aDSS:DSS",
    "ADH",
    "AECDH",
    "PSK",
    "kPSK:kRSAPSK:kDHEPSK:kECDHEPSK:aPSK",
    "SRP:kSRP:aSRP",
    "AES",
    "AES128",
    "AES256",
    "AESGCM",
    "AESCCM",
    "AESCCM8",
    "CHACHA20",
    "CAMELLIA:CAMELLIA128:CAMELLIA256",
    "ARIA:ARIA128:ARIA256:ARIAGCM",
    "CBC",
    "3DES",
    "RC4:RC2:DES:IDEA:SEED:GOST",
    "MD5",
    "SHA",
    "SHA1",
    "SHA256",
    "SHA384",
    "SSLv3",
    "TLSv1",
    "TLSv1.0",
    "TLSv1.1",
    "TLSv1.2",
    "TLSv1.3",
    "TLSv1.2+SHA256",
    "AES128-SHA+TLSv1.2",
    "AES128-SHA+ECDHE",
    "HIGH:-AES:AES128",
    "ALL:-ECDHE:ECDHE+CHACHA20",
    "HIGH:+AES256",
    "HIGH:+kRSA:+SHA1",
    "HIGH:+UNKNOWN",
    "HIGH:!UNKNOWN:-UNKNOWN",
    "ALL:!kRSA:kRSA",
    "AES128-SHA:@STRENGTH:AES256-SHA",
    "AES128:CAMELLIA256:AES256:@STRENGTH",
    "HIGH:-AES128:@STRENGTH:AES128",
    "!AES:HIGH",
    "-AES:HIGH",
    "+AES:HIGH",
    "COMPLEMENTOFDEFAULT+HIGH",
    "HIGH+COMPLEMENTOFDEFAULT",
    "HIGH+FIPS",
    "FIPS+AES128-SHA",
    "AES128-SHA+FIPS+HIGH",
    "COMPLEMENTOFDEFAULT+AES128-SHA",
    "ADH-AES128-SHA+COMPLEMENTOFDEFAULT+FIPS",
    "NULL-SHA256+HIGH",
    "AES128-SHA+AES256-SHA",
    "SUITEB128",
    "SUITEB128ONLY",
    "SUITEB192",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_128_GCM_SHA256:ECDHE",
    "HIGH:@SECLEVEL=3",
    "HIGH:@SECLEVEL=9",
    "HIGH:@SECLEVEL=",
    "HIGH:@STRONG",
    "HIGH:?",
    "HIGH:!",
    "HIGH:AES+",
    "",
    "!aNULL",
    "high",
    "ECDHE-RSA-AES128-GCM-SHA25",
];

#[test]
fn lists_become_what_openssl_makes_of_them() {
    assert!(LISTS.len() >= 60);
    for list in LISTS {
        same(list);
    }
}

#[test]
fn each_suite_has_openssls_name_code_and_place() {
    let output = program("openssl").args(["ciphers", "-V", "-stdname", "ALL:COMPLEMENTOFALL"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut theirs: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .map(|fields| format!("{} {} {}", fields[0], fields[2], fields[4]))
        .filter(|line| !line.contains(" TLS_AES_") && !line.contains(" TLS_CHACHA20_"))
        .collect();
    let mut ours: Vec<String> = known_suites()
        .iter()
        .map(|suite| {
            let [high, low] = suite.code.to_be_bytes();
            format!("0x{high:02X},0x{low:02X} {} {}", suite.iana, suite.openssl)
        })
        .collect();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs);
}

fn random_list() -> impl Strategy<Value = String> {
    let aliases = [
        "ALL",
        "HIGH",
        "COMPLEMENTOFDEFAULT",
        "COMPLEMENTOFALL",
        "eNULL",
        "aNULL",
        "kRSA",
        "aRSA",
        "RSA",
        "DHE",
        "DH",
        "ECDHE",
        "ECDH",
        "aECDSA",
        "ADH",
        "AECDH",
        "PSK",
        "kPSK",
        "SRP",
        "DSS",
        "AES",
        "AES128",
        "AES256",
        "AESGCM",
        "AESCCM",
        "AESCCM8",
        "CHACHA20",
        "CAMELLIA",
        "CAMELLIA256",
        "ARIA",
        "ARIA128",
        "CBC",
        "MD5",
        "SHA1",
        "SHA256",
        "SHA384",
        "SSLv3",
        "TLSv1.0",
        "TLSv1.2",
        "FIPS",
        "3DES",
        "NONSENSE",
    ];
    let suites = known_suites().iter().map(|suite| suite.openssl).collect::<Vec<_>>();
    let name = prop_oneof![4 => prop::sample::select(aliases.to_vec()), 1 => prop::sample::select(suites)];
    let names = prop::collection::vec(name, 1..4).prop_map(|names| names.join("+"));
    let command =
        (prop::sample::select(vec!["", "", "", "-", "+", "!"]), names).prop_map(|(c, names)| c.to_owned() + &names);
    let item = prop_oneof![12 => command, 1 => Just("@STRENGTH".to_owned()), 1 => Just("@SECLEVEL=1".to_owned())];
    let beginning = prop::sample::select(vec!["", "", "DEFAULT:", "ALL:", "HIGH:"]);
    let separator = prop::sample::select(vec![":", ",", " "]);
    (beginning, prop::collection::vec(item, 1..7), separator)
        .prop_map(|(beginning, items, separator)| beginning.to_owned() + &items.join(separator))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_lists_become_what_openssl_makes_of_them(list in random_list()) {
        prop_assert_eq!(ours(&list), openssl(&list), "{:?}", list);
    }

    #[test]
    fn no_text_is_too_odd_to_be_judged(list in "[ -~]{0,40}") {
        let _ = parse_ciphers(&list, &Suite::ALL);
        let _ = parse_groups(&list);
        let _ = parse_versions(&list);
    }
}

fn names(unavailable: &[Unavailable]) -> Vec<(&str, Why)> {
    unavailable.iter().map(|unavailable| (unavailable.name.as_str(), unavailable.why)).collect()
}

#[test]
fn the_well_known_block_of_nginx_works_and_says_what_it_leaves_out() {
    let defaults = Settings::default();
    let ((min, max), old) = parse_versions("TLSv1.2 TLSv1.3").unwrap();
    assert_eq!(old, []);
    let (suites, unavailable) = parse_ciphers("HIGH:!aNULL:!MD5", &defaults.suites).unwrap();
    let expected = [
        // TLS 1.3 as it was.
        Suite::Aes128GcmSha256,
        Suite::Aes256GcmSha384,
        Suite::ChaCha20Poly1305Sha256,
        // TLS 1.2 in OpenSSL's order.
        Suite::EcdheEcdsaAes256GcmSha384,
        Suite::EcdheRsaAes256GcmSha384,
        Suite::EcdheEcdsaChaCha20Poly1305Sha256,
        Suite::EcdheRsaChaCha20Poly1305Sha256,
        Suite::EcdheEcdsaAes128GcmSha256,
        Suite::EcdheRsaAes128GcmSha256,
    ];
    assert_eq!(suites, expected);
    assert!(unavailable.iter().all(|unavailable| !unavailable.named));
    let count = |why| unavailable.iter().filter(|unavailable| unavailable.why == Why::Suite(why)).count();
    assert_eq!(suites.len() - 3 + unavailable.len(), openssl("HIGH:!aNULL:!MD5").unwrap().len());
    assert!(count(Unserved::StaticRsa) > 0 && count(Unserved::Cbc) > 0 && count(Unserved::Dhe) > 0);
    assert!(count(Unserved::Anonymous) == 0 && count(Unserved::Null) == 0);
    Policy::new(Settings { min, max, suites, suite_order: SuiteOrder::Server, ..defaults }).unwrap();
}

#[test]
fn suites_that_cannot_be_served_are_named_with_their_reasons() {
    let list = "ECDHE-RSA-AES128-SHA:DHE-RSA-AES128-GCM-SHA256:TLS_RSA_WITH_AES_128_GCM_SHA256:ECDHE-ECDSA-AES128-CCM:\
                ADH-AES128-SHA:NULL-MD5:PSK-AES128-CBC-SHA:DHE-DSS-AES128-SHA:DES-CBC3-SHA:ECDHE-RSA-AES128-GCM-SHA256:\
                ECDHE-RSA-AES-128";
    let (suites, unavailable) = parse_ciphers(list, &[]).unwrap();
    assert_eq!(suites, [Suite::EcdheRsaAes128GcmSha256]);
    assert_eq!(
        names(&unavailable),
        [
            ("ECDHE-RSA-AES-128", Why::Unknown),
            ("DES-CBC3-SHA", Why::RetiredSuite),
            ("ECDHE-RSA-AES128-SHA", Why::Suite(Unserved::Cbc)),
            ("DHE-RSA-AES128-GCM-SHA256", Why::Suite(Unserved::Dhe)),
            ("TLS_RSA_WITH_AES_128_GCM_SHA256", Why::Suite(Unserved::StaticRsa)),
            ("ECDHE-ECDSA-AES128-CCM", Why::Suite(Unserved::Rare)),
            ("ADH-AES128-SHA", Why::Suite(Unserved::Anonymous)),
            ("NULL-MD5", Why::Suite(Unserved::Null)),
            ("PSK-AES128-CBC-SHA", Why::Suite(Unserved::SharedSecret)),
            ("DHE-DSS-AES128-SHA", Why::Suite(Unserved::Dss)),
        ]
    );
    assert!(unavailable.iter().all(|unavailable| unavailable.named));
}

#[test]
fn a_list_that_leaves_nothing_is_an_error_with_the_reasons() {
    let error = parse_ciphers("AES128-SHA:DES-CBC3-SHA", &Suite::ALL).unwrap_err();
    assert_eq!(
        error.to_string(),
        "leaves no supported cipher suite (DES-CBC3-SHA: broken or obsolete; OpenSSL no longer offers it either; \
         AES128-SHA: key exchange by RSA has no forward secrecy; use its ECDHE-RSA counterpart): write for \
         example \"ECDHE+AESGCM:ECDHE+CHACHA20\""
    );
    assert!(matches!(parse_ciphers("", &Suite::ALL), Err(ParseError::Empty { .. })));
    let error = parse_ciphers("HIGH:?", &Suite::ALL).unwrap_err();
    assert_eq!(
        error.to_string(),
        "is not a list of cipher suites: cannot read \"?\": write names joined with ':', each with '!', '-' or '+' in \
         front or nothing"
    );
    assert!(matches!(
        parse_ciphers("!TLS_AES_128_GCM_SHA256", &[Suite::Aes128GcmSha256]),
        Err(ParseError::Empty { .. })
    ));
}

#[test]
fn a_list_about_tls13_only_leaves_no_suite_for_tls12_and_the_policy_says_so() {
    let (suites, unavailable) = parse_ciphers("TLS_AES_256_GCM_SHA384", &Suite::ALL).unwrap();
    assert_eq!((suites.as_slice(), unavailable.len()), (&[Suite::Aes256GcmSha384][..], 0));
    let settings = Settings { suites, ..Settings::default() };
    assert!(Policy::new(settings.clone()).is_err());
    Policy::new(Settings { min: Version::Tls13, ..settings }).unwrap();
}

#[test]
fn a_security_level_removes_short_keys_and_cannot_be_lowered() {
    let (suites, unavailable) = parse_ciphers("ECDHE+aRSA+AESGCM:@SECLEVEL=4", &[Suite::Aes128GcmSha256]).unwrap();
    assert_eq!(suites, [Suite::EcdheRsaAes256GcmSha384]);
    assert_eq!(
        names(&unavailable),
        [
            ("@SECLEVEL=4", Why::HighLevel),
            ("ECDHE-RSA-AES128-GCM-SHA256", Why::BelowLevel),
            ("TLS_AES_128_GCM_SHA256", Why::BelowLevel),
        ]
    );
    let (_, unavailable) = parse_ciphers("ECDHE+AESGCM:@SECLEVEL=0", &[]).unwrap();
    assert_eq!(names(&unavailable), [("@SECLEVEL=0", Why::LowLevel)]);
    let (_, unavailable) = parse_ciphers("ECDHE+AESGCM:@SECLEVEL=2", &[]).unwrap();
    assert_eq!(names(&unavailable), []);
}

#[test]
fn versions_are_read_in_the_words_of_nginx() {
    let ((min, max), unavailable) = parse_versions("TLSv1 TLSv1.1 TLSv1.2 TLSv1.3 TLSv1.4").unwrap();
    assert_eq!((min, max), (Version::Tls12, Version::Tls13));
    assert_eq!(
        names(&unavailable),
        [("TLSv1", Why::OldVersion), ("TLSv1.1", Why::OldVersion), ("TLSv1.4", Why::Unknown)]
    );
    assert_eq!(parse_versions("tlsv1.3").unwrap().0, (Version::Tls13, Version::Tls13));
    assert!(matches!(parse_versions("SSLv3 TLSv1"), Err(ParseError::NothingLeft { .. })));
    assert!(matches!(parse_versions("  "), Err(ParseError::Empty { .. })));
}

#[test]
fn groups_are_read_in_the_words_of_nginx_openssl_and_iana() {
    let (groups, unavailable) = parse_groups("X25519:prime256v1:secp521r1:x448:P-384:ffdhe2048:X25519:curve9").unwrap();
    assert_eq!(groups, [Group::X25519, Group::Secp256r1, Group::Secp384r1]);
    assert_eq!(
        names(&unavailable),
        [("secp521r1", Why::Group), ("x448", Why::Group), ("ffdhe2048", Why::FiniteField), ("curve9", Why::Unknown),]
    );
    assert_eq!(parse_groups("auto").unwrap().0, Settings::default().groups);
    let (groups, unavailable) =
        parse_groups("?SecP256r1MLKEM768:*X25519MLKEM768 / *X25519:?unheard:-secp256r1").unwrap();
    assert_eq!(groups, [Group::Secp256r1MlKem768, Group::X25519MlKem768, Group::X25519]);
    assert_eq!(unavailable, []);
    let error = parse_groups("secp521r1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "leaves no supported key exchange group (secp521r1: not supported; use X25519, prime256v1 or secp384r1): \
         write for example \"X25519MLKEM768:X25519:prime256v1:secp384r1\""
    );
}
