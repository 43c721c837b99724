//! etcd, kube-apiserver and kube-controller-manager, as real as they are: the published programs, as processes of the
//! test. Faults are signals to them, or packets that are dropped.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use super::kubelet::{NODE, PLAYED};
use super::network::{self, api_address, node_address};
use super::pki::Pki;
use super::process::{Process, outcome, run};
use super::runtime::{self, block_on};
use super::{programs, trial, wait_until};

/// What a control plane is made of.
#[derive(Clone, Default)]
pub struct Options {
    /// Tells several control planes of one test apart; part of all their addresses.
    pub number: u8,
    /// More flags of the API server.
    pub api_flags: Vec<String>,
    /// Whether kube-proxy makes Services and load balancers reachable. One per test at most.
    pub proxy: bool,
}

/// The controllers that something of ours leans on.
const CONTROLLERS: &str = "endpointslice-controller,garbage-collector-controller,namespace-controller,\
                           serviceaccount-controller,root-ca-certificate-publisher-controller,deployment-controller,\
                           replicaset-controller,daemonset-controller,disruption-controller,job-controller";

/// A running control plane; it ends when this is dropped.
pub struct ControlPlane {
    pub number: u8,
    /// Where the API server listens: `10.77.N.1`, port 6443.
    pub address: Ipv4Addr,
    pub pki: Pki,
    api_flags: Vec<String>,
    client: Client,
    // Dropped in this order.
    proxy: Mutex<Option<Process>>,
    controllers: Mutex<Option<Process>>,
    api: Mutex<Option<Process>>,
    etcd: Process,
}

pub const PORT: u16 = 6443;

impl ControlPlane {
    /// Starts it, and waits until it is ready.
    pub fn start(options: Options) -> Self {
        let number = options.number;
        let address = api_address(number);
        network::add_address(address.into());
        network::add_address(node_address(number).into());
        network::route_services(number);
        let folder = trial::scratch().join(format!("control-plane-{number}"));
        fs::create_dir_all(&folder).unwrap();
        let url = format!("https://{address}:{PORT}");
        let service = Ipv4Addr::new(10, 96, number, 1);
        let pki = Pki::new(&folder, &url, &[IpAddr::from(address), service.into()]);

        let mut command = programs::control_plane();
        let (client, peer) = (format!("http://{address}:2379"), format!("http://{address}:2380"));
        let etcd = Process::start(
            &format!("etcd-{number}"),
            command.arg("etcd").arg(folder.join("etcd")).args([&client, &peer]),
        );
        let api = start_api(number, &pki, &options.api_flags);
        let plane = Self {
            number,
            address,
            api_flags: options.api_flags,
            client: client_of(&pki.file("admin.conf")),
            pki,
            proxy: Mutex::default(),
            controllers: Mutex::default(),
            api: Mutex::new(Some(api)),
            etcd,
        };
        plane.wait_until_ready();
        plane.start_controllers();
        plane.announce_itself();
        plane.add_node(NODE);
        plane.add_node(PLAYED);
        if options.proxy {
            plane.start_proxy();
        }
        plane
    }

    /// Where kubeconfigs point.
    pub fn url(&self) -> String {
        format!("https://{}:{PORT}", self.address)
    }

    /// An administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.file("admin.conf")
    }

    /// An administrator's client. It lives in the runtime of [`block_on`].
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// kubectl as an administrator; what it said on both streams. Fails if it fails.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let (text, succeeded) = self.try_kubectl(args);
        assert!(succeeded, "kubectl {}: {text}", args.join(" "));
        text
    }

    /// As [`Self::kubectl`], where failing is no failure.
    pub fn try_kubectl(&self, args: &[&str]) -> (String, bool) {
        outcome(self.command("kubectl").args(args))
    }

    /// `kubectl apply` with strict validation by the server.
    pub fn apply(&self, manifests: &str) -> String {
        let (text, succeeded) = self.try_apply(manifests);
        assert!(succeeded, "kubectl apply: {text}\n{manifests}");
        text
    }

    /// As [`Self::apply`], where a refusal is no failure.
    pub fn try_apply(&self, manifests: &str) -> (String, bool) {
        self.kubectl_with_input(&["apply", "--validate=strict", "--filename=-"], manifests)
    }

    /// Teaches it TlsPolicies. Returns when it serves them.
    pub fn define_policies(&self) {
        self.apply(&std::fs::read_to_string(programs::checkout("crds/tlspolicies.handfast.dev.yaml")).unwrap());
        self.kubectl(&["wait", "--for=condition=Established", "crd/tlspolicies.handfast.dev", "--timeout=60s"]);
    }

    /// kubectl with something to read.
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> (String, bool) {
        let mut command = self.command("kubectl");
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // On a thread of its own: it may answer before it has read everything.
        let output = std::thread::scope(|scope| {
            scope.spawn(move || pipe.write_all(input.as_bytes()));
            child.wait_with_output().unwrap()
        });
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (text, output.status.success())
    }

    /// helm as an administrator; what it said. Fails if it fails.
    pub fn helm(&self, args: &[&str]) -> String {
        let (text, succeeded) = outcome(self.command("helm").args(args));
        assert!(succeeded, "helm {}: {text}", args.join(" "));
        text
    }

    /// kubectl or helm, with an administrator's rights and files of its own.
    pub fn command(&self, name: &str) -> Command {
        let mut command = programs::control_plane();
        let home = trial::scratch().join("home");
        fs::create_dir_all(&home).unwrap();
        command.arg(name).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", home).env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// A token for a service account, as kubelets ask for it.
    pub fn token(&self, namespace: &str, account: &str, seconds: i64) -> TokenRequest {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let account = account.to_owned();
        block_on(async move {
            let spec = TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() };
            let request = TokenRequest { spec, ..TokenRequest::default() };
            accounts.create_token_request(&account, &PostParams::default(), &request).await.unwrap()
        })
    }

    /// A token that ends with a Secret, which is made for it: delete that, and the API server answers 401 within 10 s (it
    /// remembers tokens for so long). Tokens that end by themselves take ten minutes at least.
    pub fn revocable_token(&self, namespace: &str, account: &str, secret: &str) -> String {
        self.kubectl(&["create", "secret", "generic", secret, "--namespace", namespace]);
        let args = ["create", "token", account, "--namespace", namespace, "--bound-object-kind=Secret"];
        let mut command = self.command("kubectl");
        command.args(args).arg(format!("--bound-object-name={secret}"));
        run(&mut command).trim().to_owned()
    }

    /// A kubeconfig for a service account, with the file that its token is in: valid for an hour, unless the test
    /// replaces it.
    pub fn account_kubeconfig(&self, namespace: &str, account: &str) -> (PathBuf, PathBuf) {
        let token = self.token(namespace, account, 3600).status.unwrap().token;
        let file = self.pki.file(&format!("{namespace}-{account}.token"));
        fs::write(&file, token).unwrap();
        (self.pki.token_kubeconfig(&format!("{namespace}-{account}"), namespace, &file), file)
    }

    /// The API server stands still: connections are accepted by the kernel, and nobody answers.
    pub fn stop(&self) {
        self.signal_api("STOP");
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal_api("CONT");
    }

    /// The API server is killed: connections are refused.
    pub fn kill(&self) {
        self.api.lock().unwrap().take();
    }

    /// Starts the API server again after [`Self::kill`], with the same data: its watch cache is empty, so watches from
    /// older versions end with 410. Waits until it is ready.
    pub fn revive(&self) {
        let mut api = self.api.lock().unwrap();
        assert!(api.is_none(), "the API server runs");
        *api = Some(start_api(self.number, &self.pki, &self.api_flags));
        drop(api);
        self.wait_until_ready();
    }

    /// As [`Self::revive`], with other flags than before.
    pub fn revive_with(&mut self, flags: &[&str]) {
        self.api_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self.revive();
    }

    /// Waits until the API server says that it is ready.
    pub fn wait_until_ready(&self) {
        wait_until("the API server is ready", || {
            if let Some(api) = self.api.lock().unwrap().as_ref() {
                assert!(api.is_running(), "the API server has ended: {}", api.log.display());
            }
            assert!(self.etcd.is_running(), "etcd has ended: {}", self.etcd.log.display());
            let client = self.client();
            block_on(async move {
                let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
                let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
                matches!(answer, Ok(Ok(text)) if text == "ok")
            })
        });
    }

    /// The process of the API server.
    pub fn api_pid(&self) -> u32 {
        self.api.lock().unwrap().as_ref().expect("the API server was killed").pid()
    }

    /// Starts the controllers, which run from the start.
    pub fn start_controllers(&self) {
        let mut command = programs::control_plane();
        command.arg("kcm").arg(format!("--kubeconfig={}", self.kubeconfig().display()));
        command.arg(format!("--service-account-private-key-file={}", self.pki.file("sa.key").display()));
        command.arg(format!("--root-ca-file={}", self.pki.file("ca.crt").display()));
        command.arg(format!("--controllers={CONTROLLERS}"));
        command.args(["--leader-elect=false", "--use-service-account-credentials=false", "--secure-port=0", "--v=1"]);
        let process = Process::start(&format!("controllers-{}", self.number), &mut command);
        *self.controllers.lock().unwrap() = Some(process);
    }

    /// Stops the controllers: EndpointSlices stay as they are.
    pub fn stop_controllers(&self) {
        self.controllers.lock().unwrap().take();
    }

    /// Whether Services are reachable.
    pub fn has_proxy(&self) -> bool {
        self.proxy.lock().unwrap().is_some()
    }

    fn start_proxy(&self) {
        let mut command = programs::control_plane();
        command.arg("proxy").arg(format!("--kubeconfig={}", self.kubeconfig().display()));
        command.args(["--proxy-mode=nftables", "--hostname-override=node-0", "--cluster-cidr=10.77.0.0/16"]);
        command.args(["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s"]);
        command.args(["--conntrack-tcp-timeout-close-wait=0s", "--v=1"]);
        let process = Process::start(&format!("proxy-{}", self.number), &mut command);
        *self.proxy.lock().unwrap() = Some(process);
    }

    /// The endpoint of the Service `kubernetes`, which a cluster's API servers keep. Here it never changes, also while
    /// the API server is away.
    fn announce_itself(&self) {
        self.apply(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: kubernetes, namespace: default, labels: {{kubernetes.io/service-name: kubernetes}}}}\n\
             addressType: IPv4\nports: [{{name: https, port: {PORT}, protocol: TCP}}]\n\
             endpoints: [{{addresses: [\"{}\"], conditions: {{ready: true}}}}]\n",
            self.address
        ));
    }

    /// A node that is ready. Both have the same address: there is one machine.
    fn add_node(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.client());
        let (name, address) = (name.to_owned(), node_address(self.number));
        block_on(async move {
            let labels = json!({
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": std::env::consts::ARCH,
            });
            let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
            if name == PLAYED {
                // Nothing but what tests put there: DaemonSets pass it by.
                node["spec"] = json!({"taints": [{"key": "played", "value": "true", "effect": "NoSchedule"}]});
            }
            nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
            let size = json!({"cpu": "2", "memory": "4Gi", "pods": "250"});
            let status = json!({"status": {
                "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
                "capacity": size, "allocatable": size,
            }});
            nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        });
    }

    fn signal_api(&self, name: &str) {
        self.api.lock().unwrap().as_ref().expect("the API server was killed").signal(name);
    }
}

fn start_api(number: u8, pki: &Pki, flags: &[String]) -> Process {
    let address = api_address(number);
    let mut command = programs::control_plane();
    command.arg("apiserver").arg(format!("--etcd-servers=http://{address}:2379"));
    command.arg(format!("--bind-address={address}")).arg(format!("--advertise-address={address}"));
    command.arg(format!("--secure-port={PORT}"));
    let files = [
        ("cert-dir", "."),
        ("tls-cert-file", "server.crt"),
        ("tls-private-key-file", "server.key"),
        ("client-ca-file", "ca.crt"),
        ("service-account-key-file", "sa.pub"),
        ("service-account-signing-key-file", "sa.key"),
    ];
    for (flag, file) in files {
        command.arg(format!("--{flag}={}", pki.file(file).display()));
    }
    command.arg("--service-account-issuer=https://kubernetes.default.svc").arg("--authorization-mode=RBAC");
    command.arg(format!("--service-cluster-ip-range={}", network::service_range(number)));
    command.args(["--endpoint-reconciler-type=none", "--disable-admission-plugins=TaintNodesByCondition"]);
    command.args(["--allow-privileged=true", "--event-ttl=10m", "--v=1"]).args(flags);
    Process::start(&format!("apiserver-{number}"), &mut command)
}

fn client_of(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = block_on(async move { Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap() });
    config.connect_timeout = Some(Duration::from_secs(5));
    // The client's connections belong to the runtime that is current when it is made.
    let _guard = runtime::handle().enter();
    Client::try_from(config).unwrap()
}
