//! A container without a runtime: a script of a few mounts, and then the program with the rights that the Pod says.
//!
//! `nsenter (network) ▶ unshare (mounts, processes) ▶ sh: root, volumes ▶ setpriv ▶ unshare (root, user) ▶ the program`
//!
//! The program is the first process of its process namespace, as in a cluster: signals that it does not handle do not
//! reach it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::pod::{Pod, ask};
use super::probes::{self, Findings, Target};
use super::volumes::Volumes;
use super::{NODE, Node};
use crate::support::network::Sandbox;
use crate::support::process::{Process, outcome};
use crate::support::programs;

/// What an image says about itself.
pub(in crate::support) struct Image {
    binary: PathBuf,
    is_static: bool,
    entrypoint: &'static str,
    user: u32,
}

impl Image {
    /// As the Dockerfile makes it: one binary, and a user.
    pub(super) fn handfast() -> Self {
        let binary = programs::handfast();
        Self { binary: binary.path.clone(), is_static: binary.is_static, entrypoint: "/handfast", user: 65532 }
    }
}

/// One container of a Pod, over all its runs.
pub struct Container {
    pub name: String,
    description: core::Container,
    /// Ready to be started, but for the script.
    enter: Vec<String>,
    script: String,
    log: String,
    user: (u32, u32),
    target: Target,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    run: Option<Run>,
    restarts: u32,
    /// Exit status of the last run that ended.
    last_exit: Option<i32>,
    restart_at: Option<Instant>,
    /// It was told to end, and is not started again.
    ending: bool,
}

struct Run {
    process: Arc<Process>,
    findings: Arc<Findings>,
    /// We have killed it: `unshare` does not tell.
    is_killed: bool,
}

impl Run {
    fn kill(&mut self) {
        self.findings.over.store(true, Ordering::Relaxed);
        self.is_killed |= self.process.is_running();
        self.process.kill_group();
    }

    /// As runtimes count: 128 and the number of the signal for what was killed.
    fn exit_code(&self) -> Option<i32> {
        let status = self.process.ended()?;
        Some(status.code().filter(|_| !self.is_killed).unwrap_or(137))
    }
}

impl Container {
    pub(super) fn new(
        node: &Node,
        pod: &Pod,
        description: &core::Container,
        address: Ipv4Addr,
        sandbox: Option<&Sandbox>,
        volumes: &Volumes,
    ) -> Self {
        let object = pod.object();
        let user = user(node, &object, description);
        let environment = environment(node, pod, description);
        let root = pod.folder().join(format!("root-{}", description.name));
        std::fs::create_dir_all(&root).unwrap();
        let script = script(&Setting { node, pod: &object, description, root, user, environment, volumes });
        let enter = match sandbox {
            Some(sandbox) => {
                let command = sandbox.enter();
                let words = std::iter::once(command.get_program()).chain(command.get_args());
                words.map(|word| word.to_str().unwrap().to_owned()).collect()
            }
            None => Vec::new(),
        };
        Self {
            name: description.name.clone(),
            description: description.clone(),
            enter,
            script,
            log: format!("pod-{}-{}", pod.name, description.name),
            user,
            target: Target { address, ports: description.ports.clone().unwrap_or_default() },
            state: Mutex::default(),
        }
    }

    /// Starts it.
    pub(super) fn run(&self) {
        let mut words = self.enter.clone();
        let unshare = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "sh", "-c", &self.script];
        words.extend(unshare.map(str::to_owned));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let process = Arc::new(Process::start(&self.log, &mut command));
        let findings = probes::start(&self.description, &self.target);
        self.state.lock().unwrap().run = Some(Run { process, findings, is_killed: false });
    }

    /// Looks whether it has ended, and starts it again where it should be; ends it where it is unhealthy.
    pub(super) fn tick(&self, restart: bool) {
        let mut state = self.state.lock().unwrap();
        let ending = state.ending;
        if let Some(run) = &mut state.run
            && !ending
            && run.findings.unhealthy.swap(false, Ordering::Relaxed)
        {
            // Kubelets ask it to end first. What is unhealthy seldom does.
            println!("container {} is unhealthy and is killed", self.name);
            run.kill();
        }
        if let Some(code) = state.run.as_ref().and_then(Run::exit_code) {
            state.run.as_ref().unwrap().findings.over.store(true, Ordering::Relaxed);
            state.last_exit = Some(code);
            state.run = None;
            if restart && !state.ending {
                // As kubelets do, in quick motion: at once, then later and later.
                let delay = Duration::from_millis(500) * state.restarts.min(20);
                state.restart_at = Some(Instant::now() + delay);
            }
        }
        if state.restart_at.is_some_and(|at| at <= Instant::now()) {
            state.restart_at = None;
            if restart && !state.ending {
                state.restarts += 1;
                drop(state);
                self.run();
            }
        }
    }

    /// Ends it: hook, SIGTERM, and SIGKILL after the grace period.
    pub(super) fn terminate(&self, grace: Duration, is_gone: &dyn Fn() -> bool) {
        let deadline = Instant::now() + grace;
        self.state.lock().unwrap().ending = true;
        let hook = self.description.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let Some(hook) = hook
            && self.is_running()
        {
            self.before_stop(hook, deadline, is_gone);
        }
        self.signal("TERM");
        while self.is_running() && Instant::now() < deadline && !is_gone() {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        if self.is_running() {
            println!("container {} outlasts its grace period and is killed", self.name);
        }
        self.kill();
    }

    fn before_stop(&self, hook: &core::LifecycleHandler, deadline: Instant, is_gone: &dyn Fn() -> bool) {
        let over = || Instant::now() >= deadline || is_gone() || !self.is_running();
        if let Some(sleep) = &hook.sleep {
            let end = Instant::now() + Duration::from_secs(u64::try_from(sleep.seconds).unwrap());
            while Instant::now() < end && !over() {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        } else if let Some(exec) = &hook.exec {
            let words = exec.command.clone().unwrap_or_default();
            let process = Process::start(&format!("{}-hook", self.log), &mut self.inside(&words));
            while process.is_running() && !over() {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        } else if let Some(http) = &hook.http_get {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            probes::get(&self.target, &http.port, http.path.as_deref().unwrap_or("/"), left);
        } else {
            panic!("this node does not know the hook {hook:?}");
        }
    }

    pub(super) fn kill(&self) {
        let mut state = self.state.lock().unwrap();
        state.ending = true;
        if let Some(run) = &mut state.run {
            run.kill();
        }
    }

    pub fn is_running(&self) -> bool {
        self.state.lock().unwrap().run.as_ref().is_some_and(|run| run.process.is_running())
    }

    pub(super) fn will_restart(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.restart_at.is_some() || (state.run.is_some() && !state.ending)
    }

    pub fn is_ready(&self) -> bool {
        let state = self.state.lock().unwrap();
        let ready = |run: &Run| {
            let is = |flag: &std::sync::atomic::AtomicBool| flag.load(Ordering::Relaxed);
            is(&run.findings.started) && is(&run.findings.ready) && run.process.is_running()
        };
        state.run.as_ref().is_some_and(ready)
    }

    /// The exit status of the run that ended last.
    pub fn exit_code(&self) -> Option<i32> {
        let state = self.state.lock().unwrap();
        state.run.as_ref().and_then(Run::exit_code).or(state.last_exit)
    }

    pub fn restarts(&self) -> u32 {
        self.state.lock().unwrap().restarts
    }

    /// All that it has written, in all its runs.
    pub fn said(&self) -> String {
        crate::support::process::said(&crate::support::trial::logs().join(format!("{}.log", self.log)))
    }

    /// The program's process, once it runs.
    pub fn pid(&self) -> Option<u32> {
        let state = self.state.lock().unwrap();
        state.run.as_ref()?.process.child()
    }

    /// Sends the program a signal by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        if let Some(pid) = self.pid() {
            // It may end in this moment.
            let _ = outcome(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()));
        }
    }

    /// Runs a command inside, as `kubectl exec` does: what it said, and whether it succeeded.
    pub fn exec(&self, words: &[&str]) -> (String, bool) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        outcome(&mut self.inside(&words))
    }

    fn inside(&self, words: &[String]) -> Command {
        let pid = self.pid().expect("the container runs");
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={pid}")).args(["--mount", "--net", "--pid", "--root", "--wd"]);
        if programs::has_users() {
            command.arg(format!("--setuid={}", self.user.0)).arg(format!("--setgid={}", self.user.1));
        }
        command.arg("--").args(words);
        command
    }

    pub(super) fn status(&self) -> Value {
        let state = self.state.lock().unwrap();
        let image = self.description.image.clone().unwrap_or_default();
        let ended = |code: i32| json!({"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }}});
        let running = state.run.as_ref().filter(|run| run.process.is_running());
        let now = match (running, state.last_exit) {
            (Some(_), _) => json!({"running": {}}),
            (None, Some(_)) if state.restart_at.is_some() => json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            (None, Some(code)) => ended(code),
            (None, None) => json!({"waiting": {"reason": "ContainerCreating"}}),
        };
        drop(state);
        let ready = self.is_ready();
        let state = self.state.lock().unwrap();
        let mut status = json!({
            "name": self.name, "image": image, "imageID": image, "ready": ready, "restartCount": state.restarts,
            "started": state.run.as_ref().is_some_and(|run| run.findings.started.load(Ordering::Relaxed)), "state": now,
        });
        if let (Some(code), true) = (state.last_exit, state.restarts > 0) {
            status["lastState"] = ended(code);
        }
        status
    }
}

fn user(node: &Node, pod: &core::Pod, container: &core::Container) -> (u32, u32) {
    let context = pod.spec.as_ref().unwrap().security_context.as_ref();
    let own = container.security_context.as_ref();
    let user = own.and_then(|own| own.run_as_user).or(context.and_then(|context| context.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or(context.and_then(|context| context.run_as_group));
    let not_root = own.and_then(|own| own.run_as_non_root).or(context.and_then(|context| context.run_as_non_root));
    let number = |id: i64| u32::try_from(id).unwrap();
    // As runtimes do: the image's group goes with the image's user.
    let default_group = if user.is_none() { node.image.user } else { 0 };
    let (user, group) = (user.map_or(node.image.user, number), group.map_or(default_group, number));
    assert!(!(not_root == Some(true) && user == 0), "runAsNonRoot, and the user is root");
    (user, group)
}

struct Setting<'a> {
    node: &'a Node,
    pod: &'a core::Pod,
    description: &'a core::Container,
    root: PathBuf,
    user: (u32, u32),
    environment: Vec<(String, String)>,
    volumes: &'a Volumes,
}

/// What runtimes leave to containers that ask for nothing.
const USUAL_CAPABILITIES: &[&str] = &[
    "audit_write",
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "mknod",
    "net_bind_service",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

fn script(setting: &Setting<'_>) -> String {
    let Setting { node, pod, description, root, user, environment, volumes } = setting;
    let context = description.security_context.clone().unwrap_or_default();
    assert!(context.privileged != Some(true), "this node has no privileged containers");
    let root = root.to_str().unwrap();
    let mut text = format!("set -eu\nR={}\n", quoted(root));
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line("mount -t tmpfs -o mode=0755 tmpfs $R");
    line("mkdir -p $R/proc $R/dev $R/etc");
    line("mount -t proc proc $R/proc");
    line("for d in null zero full random urandom; do touch $R/dev/$d; mount --bind /dev/$d $R/dev/$d; done");
    line("ln -s /proc/self/fd $R/dev/fd; ln -s /proc/self/fd/1 $R/dev/stdout; ln -s /proc/self/fd/2 $R/dev/stderr");
    line(&format!("echo {} >$R/etc/hostname", quoted(pod.metadata.name.as_deref().unwrap())));
    line("echo '127.0.0.1 localhost' >$R/etc/hosts; echo 'nameserver 10.96.0.10' >$R/etc/resolv.conf");
    if !node.image.is_static {
        line("for d in /lib /lib64 /usr/lib; do if [ -e $d ]; then mkdir -p $R$d; mount --bind $d $R$d; fi; done");
    }
    let entrypoint = node.image.entrypoint;
    let bind = |from: &str, to: &str, read_only: bool| {
        let to = format!("$R{}", quoted(to));
        let mut text = format!("mount --bind {} {to}\n", quoted(from));
        if read_only {
            let _ = writeln!(text, "mount -o remount,bind,ro {to}");
        }
        text
    };
    line(&format!("touch $R{entrypoint}"));
    line(&bind(node.image.binary.to_str().unwrap(), entrypoint, true));
    for mount in description.volume_mounts.iter().flatten() {
        assert!(mount.sub_path_expr.is_none(), "this node does not know subPathExpr");
        let from = volumes.folder(&mount.name).join(mount.sub_path.as_deref().unwrap_or(""));
        let from = from.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        let to = format!("$R{}", quoted(&mount.mount_path));
        match from.is_dir() {
            true => line(&format!("mkdir -p {to}")),
            false => line(&format!("mkdir -p $(dirname {to}); touch {to}")),
        }
        let read_only = mount.read_only == Some(true) || !volumes.is_writable(&mount.name);
        line(&bind(from.to_str().unwrap(), &mount.mount_path, read_only));
    }
    if context.read_only_root_filesystem == Some(true) {
        line("mount -o remount,bind,ro $R");
    }
    line("S=$(command -v setpriv); U=$(command -v unshare)");
    let set: String =
        environment.iter().map(|(name, value)| format!(" {}", quoted(&format!("{name}={value}")))).collect();
    let mut run = format!("exec env -i{set} ");
    // In two steps: a capability cannot be kept for the last step once it is out of the bounding set. The last step
    // changes root and user; then no capability is left, but for those in the bounding set of a container run by root.
    run.push_str("$S --inh-caps=-all,+sys_chroot,+setuid,+setgid $S");
    if context.allow_privilege_escalation == Some(false) {
        run.push_str(" --no-new-privs");
    }
    let _ = write!(run, " --bounding-set={}", capabilities(&context));
    run.push_str(" $U --root=$R");
    let _ = write!(run, " --wd={}", quoted(description.working_dir.as_deref().unwrap_or("/")));
    if programs::has_users() {
        let _ = write!(run, " --setgid {} --setuid {}", user.1, user.0);
    }
    let expand = |word: &String| quoted(&expanded(word, environment));
    let command = description.command.iter().flatten();
    let mut words: Vec<String> = command.map(expand).collect();
    if words.is_empty() {
        words.push(entrypoint.to_owned());
    }
    words.extend(description.args.iter().flatten().map(expand));
    line(&format!("{run} -- {}", words.join(" ")));
    text
}

/// The bounding set, as setpriv takes it.
fn capabilities(context: &core::SecurityContext) -> String {
    let named = |list: Option<&Vec<String>>| -> Vec<String> {
        list.into_iter().flatten().map(|name| name.to_lowercase().trim_start_matches("cap_").to_owned()).collect()
    };
    let asked = context.capabilities.as_ref();
    let drop = named(asked.and_then(|asked| asked.drop.as_ref()));
    let add = named(asked.and_then(|asked| asked.add.as_ref()));
    let mut kept: Vec<String> = USUAL_CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    kept.retain(|name| !drop.contains(name) && !drop.iter().any(|name| name == "all"));
    kept.extend(add);
    let kept: String = kept.iter().map(|name| format!(",+{name}")).collect();
    format!("-all{kept}")
}

fn environment(node: &Node, pod: &Pod, container: &core::Container) -> Vec<(String, String)> {
    assert!(container.env_from.is_none(), "this node does not know envFrom");
    let object = pod.object();
    let (host, port) = &node.plane.api;
    let mut all = vec![
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOSTNAME".to_owned(), pod.name.clone()),
        ("KUBERNETES_SERVICE_HOST".to_owned(), host.clone()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_string()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".to_owned(), port.to_string()),
        ("KUBERNETES_PORT".to_owned(), format!("tcp://{host}:{port}")),
    ];
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, None) => Some(expanded(variable.value.as_deref().unwrap_or(""), &all)),
            (_, Some(from)) => value_from(node, pod, &object, container, from),
        };
        if let Some(value) = value {
            all.retain(|(name, _)| *name != variable.name);
            all.push((variable.name.clone(), value));
        }
    }
    all
}

fn value_from(
    node: &Node,
    pod: &Pod,
    object: &core::Pod,
    container: &core::Container,
    from: &core::EnvVarSource,
) -> Option<String> {
    if let Some(source) = &from.field_ref {
        return Some(field(object, &source.field_path, pod.address()));
    }
    if let Some(source) = &from.resource_field_ref {
        return Some(resource(container, source));
    }
    if let Some(source) = &from.secret_key_ref {
        let secrets: kube::Api<core::Secret> = kube::Api::namespaced(node.plane.client.clone(), &pod.namespace);
        let name = source.name.clone();
        let found = ask(async move { secrets.get_opt(&name).await }).unwrap();
        let value = found.and_then(|secret| secret.data?.remove(&source.key));
        assert!(value.is_some() || source.optional == Some(true), "Secret {} has no {}", source.name, source.key);
        return value.map(|value| String::from_utf8(value.0).unwrap());
    }
    if let Some(source) = &from.config_map_key_ref {
        let maps: kube::Api<core::ConfigMap> = kube::Api::namespaced(node.plane.client.clone(), &pod.namespace);
        let name = source.name.clone();
        let found = ask(async move { maps.get_opt(&name).await }).unwrap();
        let value = found.and_then(|map| map.data?.remove(&source.key));
        assert!(value.is_some() || source.optional == Some(true), "ConfigMap {} has no {}", source.name, source.key);
        return value;
    }
    panic!("this node does not know the variable's source {from:?}");
}

/// A field of a Pod, as the downward API names it.
pub(super) fn field(pod: &core::Pod, path: &str, address: Option<Ipv4Addr>) -> String {
    let of = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    };
    let key = path.split('\'').nth(1);
    let spec = pod.spec.as_ref().unwrap();
    match (path, key) {
        ("metadata.name", _) => pod.metadata.name.clone().unwrap_or_default(),
        ("metadata.namespace", _) => pod.metadata.namespace.clone().unwrap_or_default(),
        ("metadata.uid", _) => pod.metadata.uid.clone().unwrap_or_default(),
        ("spec.nodeName", _) => NODE.to_owned(),
        ("spec.serviceAccountName", _) => spec.service_account_name.clone().unwrap_or_default(),
        ("status.podIP" | "status.podIPs", _) => address.map(|address| address.to_string()).unwrap_or_default(),
        (path, Some(key)) if path.starts_with("metadata.labels[") => of(&pod.metadata.labels, key),
        (path, Some(key)) if path.starts_with("metadata.annotations[") => of(&pod.metadata.annotations, key),
        _ => panic!("this node does not know the field {path}"),
    }
}

/// A limit or request of a container in whole units, rounded up; the node's size where there is none.
fn resource(container: &core::Container, source: &core::ResourceFieldSelector) -> String {
    let (list, name) = source.resource.split_once('.').unwrap();
    let resources = container.resources.clone().unwrap_or_default();
    let list = if list == "limits" { resources.limits } else { resources.requests };
    let node_size = if name == "cpu" { "2" } else { "4Gi" };
    let found = list.and_then(|list| list.get(name).cloned()).unwrap_or_else(|| Quantity(node_size.to_owned()));
    let divisor = source.divisor.clone().filter(|divisor| divisor.0 != "0").unwrap_or_else(|| Quantity("1".to_owned()));
    (amount(&found) / amount(&divisor)).ceil().to_string()
}

fn amount(quantity: &Quantity) -> f64 {
    const UNITS: &[(&str, f64)] =
        &[("Ki", 1024.0), ("Mi", 1048576.0), ("Gi", 1073741824.0), ("m", 0.001), ("k", 1e3), ("M", 1e6), ("G", 1e9)];
    let text = quantity.0.as_str();
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, 1.0));
    number.parse::<f64>().unwrap() * factor
}

/// `$(NAME)` replaced by a variable that is there; `$$` is a dollar.
fn expanded(text: &str, environment: &[(String, String)]) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'))
            && let Some((_, value)) = environment.iter().find(|(known, _)| known == name)
        {
            result.push_str(value);
            rest = after;
        } else {
            result.push('$');
        }
    }
    result + rest
}

/// For `sh`.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
