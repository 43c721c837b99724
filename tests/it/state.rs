//! The state directory of the real binary: what is held outlives the process.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use handfast::demo::pki::{Authority, KeyType};
use rustls::pki_types::UnixTime;

use crate::backend::Backend;
use crate::binary::{Server, host, issue, program, run_on, service, wait_for_exit, wait_until};

/// Whether curl trusts what is served for `shop.test`.
fn is_served(server: &Server, ca: &Path) -> bool {
    let port = server.https.port();
    let output = program("curl")
        .args(["--silent", "--max-time", "60", "--resolve", &format!("shop.test:{port}:127.0.0.1"), "--cacert"])
        .arg(ca)
        .arg(format!("https://shop.test:{port}/"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    output.status.success()
}

#[test]
fn a_host_whose_secret_is_unusable_is_served_as_before_after_a_restart() {
    let backend = Backend::start("one");
    let authority = Authority::new("Kept", UnixTime::now()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let ca = place.path().join("ca.pem");
    std::fs::write(&ca, authority.root()).unwrap();
    let directory = place.path().join("state");
    let state = ["--state-dir", directory.to_str().unwrap()];
    let good = host("shop", "shop.test", Some(&issue(&authority, &["shop.test"], KeyType::EcdsaP256)), "echo", "");
    let broken = good.1.replace("BEGIN PRIVATE KEY", "BEGIN NOTHING");
    assert_ne!(broken, good.1);
    let manifests = |shop: &(String, String)| {
        let files = vec![shop.clone(), service("echo", &[backend.address])];
        move |_: &Authority| files.clone()
    };

    let server = Server::start(&manifests(&good), &state);
    assert!(is_served(&server, &ca));
    let files = || crate::binary::listing(&directory);
    assert_eq!(files(), [".lock"], "nothing is held while all is well");
    server.write("shop.yaml", &broken);
    wait_until("the Secret is held on disk", || files().contains(&"secret_default_shop.json".to_owned()));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("secret_default_shop.json"))), (0o700, 0o600));
    assert!(is_served(&server, &ca));
    // Without any notice.
    server.signal("KILL");
    drop(server);

    std::fs::write(directory.join("secret_default_other.json"), "{").unwrap();
    let mut server = Server::start(&manifests(&(good.0.clone(), broken)), &state);
    assert!(is_served(&server, &ca), "{}", server.log());
    server.wait_for_metric("handfast_host_serving", &[r#"host="shop.test",state="last_good""#], 1.0);
    let log = server.log();
    assert!(log.contains("What was held before is known again") && log.contains("secrets=1"), "{log}");
    assert!(log.contains("secret_default_other.json is not used: it ends too early; remove it"), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");

    // Two of them would undo what the other writes.
    let mut second = run_on(server.directory.path(), &place.path().join("addresses.json"));
    let mut second = second.args(state).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(wait_for_exit(&mut second).code(), Some(2));
    let mut error = String::new();
    std::io::Read::read_to_string(&mut second.stderr.take().unwrap(), &mut error).unwrap();
    assert!(error.contains("another process uses it"), "{error}");

    // Repaired: nothing is held any more.
    server.write("shop.yaml", &good.1);
    wait_until("the file is gone", || !files().contains(&"secret_default_shop.json".to_owned()));
    server.wait_for_metric("handfast_host_serving", &[r#"host="shop.test",state="current""#], 1.0);
    server.signal("TERM");
    assert!(server.wait().success());
    assert_eq!(files(), [".lock", "secret_default_other.json"]);
}
