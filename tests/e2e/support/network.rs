//! Addresses of a trial, and network namespaces for pods.
//!
//! `10.77.N.1` is the API server of control plane N, `10.77.N.254` the node, `10.77.N.M` its pods, `10.78.x.x` backends on loopback,
//! `10.96.N.0/24` Services, `10.97.N.0/24` load balancers.
//!
//! A pod's network namespace is held by a process that sleeps, and connected with a pair of interfaces; the node's end
//! has the address 169.254.1.1, which is the way out for every pod.

use std::collections::VecDeque;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use super::control_plane::PORT;
use super::process::{Process, run};
use super::wait_until;

/// The way out of a pod.
const GATEWAY: &str = "169.254.1.1";

/// Makes the namespace of a trial usable: loopback, forwarding, a place for rules that drop packets.
pub fn prepare() {
    ip("link set lo up");
    let set = |name: &str, value: &str| fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
    set("ipv4/ip_forward", "1");
    set("ipv4/conf/all/rp_filter", "0");
    set("ipv4/conf/default/rp_filter", "0");
    // What kube-proxy answers for has no interface of its own; the kernel wants a route before it asks the firewall.
    ip("link add name services type veth peer name services-end");
    ip("link set services up");
    ip("link set services-end up");
    nft("add table inet cut; add set inet cut pairs { type ipv4_addr . ipv4_addr; }");
    for hook in ["input", "output", "forward"] {
        nft(&format!("add chain inet cut {hook} {{ type filter hook {hook} priority -300; }}"));
        // Only what is said with an API server: the node has its address, and asks pods, too.
        for end in ["sport", "dport"] {
            nft(&format!("add rule inet cut {hook} ip saddr . ip daddr @pairs tcp {end} {PORT} counter drop"));
        }
    }
}

/// Runs `ip` with arguments that are separated by spaces.
pub fn ip(arguments: &str) -> String {
    run(Command::new("ip").args(arguments.split(' ')))
}

pub fn nft(commands: &str) -> String {
    run(Command::new("nft").arg(commands))
}

/// Gives loopback an address.
pub fn add_address(address: IpAddr) {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let nodad = if address.is_ipv4() { "" } else { " nodad" };
    ip(&format!("addr add {address}/{bits} dev lo{nodad}"));
}

/// Routes of a control plane: what is a Service's or a load balancer's goes past the firewall.
pub fn route_services(number: u8) {
    let node = node_address(number);
    for range in [service_range(number), load_balancer_range(number)] {
        ip(&format!("route add {range} dev services src {node}"));
    }
}

pub fn api_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, number, 1)
}

/// Where the node's own connections to Pods come from. It is not the API server's, so that one of the two can be cut off.
pub fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, number, 254)
}

pub fn service_range(number: u8) -> String {
    format!("10.96.{number}.0/24")
}

pub fn load_balancer_range(number: u8) -> String {
    format!("10.97.{number}.0/24")
}

/// A free address for a backend, which is added to loopback. Sixteen control planes have 4,000 each.
pub fn backend_address(number: u8) -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let address = Ipv4Addr::new(10, 78, number * 16 + high, low);
    add_address(address.into());
    address
}

/// A network namespace with one address, as a pod has it.
pub struct Sandbox {
    pub address: Ipv4Addr,
    interface: String,
    holder: Process,
}

/// Addresses that were in use, by their last byte.
static RETURNED: Mutex<VecDeque<u8>> = Mutex::new(VecDeque::new());

impl Drop for Sandbox {
    fn drop(&mut self) {
        // At once: the kernel takes its time over a namespace that nobody is in any more.
        ip(&format!("link del {}", self.interface));
        RETURNED.lock().unwrap().push_back(self.address.octets()[3]);
    }
}

impl Sandbox {
    /// The next free address of a control plane.
    pub fn new(number: u8) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let index = NEXT.fetch_add(1, Ordering::Relaxed);
        // Addresses come back into use as late as possible.
        let returned = (index > 252).then(|| RETURNED.lock().unwrap().pop_front()).flatten();
        let low = returned.unwrap_or_else(|| u8::try_from(1 + index).expect("at most 252 pods at a time"));
        let address = Ipv4Addr::new(10, 77, number, low);
        let mut command = Command::new("unshare");
        // The empty line says that the namespace is there.
        command.args(["--net", "sh", "-c", "echo; exec sleep infinity"]);
        let holder = Process::start(&format!("sandbox-{address}"), &mut command);
        wait_until("a network namespace", || !holder.said().is_empty() || !holder.is_running());
        let _ = fs::remove_file(&holder.log);
        let pid = holder.pid();
        ip(&format!("link add name pod{index} type veth peer name eth0 netns {pid}"));
        ip(&format!("addr add {GATEWAY}/32 dev pod{index}"));
        ip(&format!("link set pod{index} up"));
        ip(&format!("route add {address}/32 dev pod{index} src {}", node_address(number)));
        let sandbox = Self { address, interface: format!("pod{index}"), holder };
        let script = format!(
            "ip link set lo up && ip addr add {address}/32 dev eth0 && ip link set eth0 up && \
             ip route add {GATEWAY} dev eth0 && ip route add default via {GATEWAY} && \
             echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start"
        );
        run(sandbox.enter().args(["sh", "-c", &script]));
        sandbox
    }

    /// A command that runs another one, which is appended, in this namespace.
    pub fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.pid()));
        command
    }

    /// Drops all packets between this address and an API server at another one, without a word to either, until the value
    /// is dropped.
    pub fn cut_off_from(&self, other: Ipv4Addr) -> Cut {
        Cut::new(self.address, other)
    }
}

/// Packets between an address and the API server at another one are dropped while this exists.
pub struct Cut(String);

impl Cut {
    pub fn new(one: Ipv4Addr, other: Ipv4Addr) -> Self {
        let pairs = format!("{{ {one} . {other}, {other} . {one} }}");
        nft(&format!("add element inet cut pairs {pairs}"));
        Self(pairs)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        nft(&format!("delete element inet cut pairs {}", self.0));
    }
}
