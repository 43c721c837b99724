//! Starts without an API server, and with a configuration that leads nowhere.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{World, throughout};
use crate::support::process::outcome;
use crate::support::trial::{scratch, trials};
use crate::support::{Handfast, Options, programs, wait_until};

trials!(a_start_without_the_server_serves_what_was_saved_or_waits_and_says_so);

fn a_start_without_the_server_serves_what_was_saved_or_waits_and_says_so() {
    let mut world = World::complete(Options::default());
    let state = scratch().join("state");
    let saving = ["--state-dir", state.to_str().unwrap()];
    let first = world.handfast(&saving);
    first.wait_until_ready();
    wait_until("what is served is saved", || saved(&state));
    let serial = world.serial(&first, "shop.test").unwrap();
    first.process.signal("TERM");
    first.process.wait();
    let place = first.end();

    world.plane.kill();
    let begun = Instant::now();
    let second =
        Handfast::start_in(place, &world.plane, &[&["--source", "cluster", "--no-status"], &saving[..]].concat());
    let without = world.handfast(&["--sync-timeout", "2s"]);
    // Each of them has something wrong that an operator could mend.
    wrong_usage(&world);

    second.wait_until_ready();
    println!("serves what was saved {:.1} s after its start", begun.elapsed().as_secs_f64());
    assert_eq!(world.serial(&second, "shop.test"), Some(serial), "{}", second.process.said());
    assert_eq!(second.metric("handfast_serving_saved_objects", &[]), 1.0);
    second.wait_for_line("serves the saved objects of --state-dir");
    let target = world.target(&second);
    assert_eq!(crate::support::load::get(&target).unwrap().0, 200);

    without.wait_for_line("Still waiting for the objects of the cluster. Nothing is served yet");
    without.wait_for_line("Connection refused");
    assert!(!without.is_ready());
    let (status, why) = without.admin("/readyz");
    assert!(status == 503 && why.contains("starting"), "{status} {why}");
    // It ends when it is told to, although it has not begun.
    let third = world.handfast(&[]);
    third.wait_for_line("Watching the cluster");
    let told = Instant::now();
    third.process.signal("TERM");
    assert!(third.process.wait().success());
    println!("ends {:.1} s after SIGTERM", told.elapsed().as_secs_f64());
    third.wait_for_line("Ended before the start was complete");

    world.plane.revive();
    let back = Instant::now();
    let changes = world.change();
    for (name, handfast) in [("with a state directory", &second), ("without one", &without)] {
        handfast.wait_until_ready();
        world.caught_up(name, handfast, &changes, back);
    }
    wait_until("nothing that was saved is needed", || second.metric("handfast_serving_saved_objects", &[]) == 0.0);
    assert_eq!(second.metric("handfast_diagnostics", &[]), 0.0);
}

/// Whether a configuration is on disk: files in a folder of the directory.
fn saved(state: &Path) -> bool {
    let folders = std::fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    folders.filter(|path| path.is_dir()).flat_map(files).any(|entry| entry.file_name() == "index.json")
}

/// What cannot work is said at once; what may work later is tried again, and said, too.
fn wrong_usage(world: &World) {
    let file = |name: &str, text: &str| {
        let path = scratch().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = std::fs::read_to_string(world.plane.kubeconfig()).unwrap();
    let path = world.plane.kubeconfig();
    let missing = scratch().join("missing.conf");
    let folder = scratch();
    let no_token = good.replace("client-certificate-data", "tokenFile: /nowhere/token, client-certificate-data");
    let rows: [(&[&str], &[&str]); 6] = [
        (&["--kubeconfig", missing.to_str().unwrap()], &["missing.conf", "No such file"]),
        (&["--kubeconfig", folder.to_str().unwrap()], &["cannot use --kubeconfig", "Is a directory"]),
        (&["--kubeconfig", &file("garbage.conf", "token: secret: {")], &["garbage.conf", "cannot use --kubeconfig"]),
        (&["--kubeconfig", path.to_str().unwrap(), "--context", "elsewhere"], &["admin.conf", "elsewhere"]),
        (&["--kubeconfig", &file("token.conf", &no_token)], &["/nowhere/token", "No such file"]),
        (
            &["--kubeconfig", &file("proxy.conf", &good.replace("server:", "proxy-url: http://127.0.0.1:1, server:"))],
            &["proxies to the API server are not supported"],
        ),
    ];
    for (args, expected) in rows {
        let mut command = std::process::Command::new(&programs::handfast().path);
        command.args(["run", "--source", "cluster", "--no-status"]).args(args).env_clear();
        let (text, succeeded) = outcome(&mut command);
        let lines = text.lines().count();
        assert!(!succeeded && expected.iter().all(|part| text.contains(part)), "{args:?}: {text}");
        assert!(lines == 1 && !text.contains("secret"), "{args:?}: {text}");
    }
    // That nobody listens may be over soon.
    let refusing = file("refusing.conf", &good.replace(":6443", ":6444"));
    let refused = world.handfast(&["--kubeconfig", &refusing]);
    refused.wait_for_line("Connection refused");
    throughout(Duration::from_secs(1), || assert!(refused.process.is_running() && !refused.is_ready()));
    refused.process.signal("TERM");
    assert!(refused.process.wait().success());
}
