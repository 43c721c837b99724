//! Which addresses requests may be sent to.
//!
//! `address of an endpoint | address that a name resolves to ──▶ Reach ──▶ may be used, or why not`
//!
//! Whoever may write EndpointSlices or ExternalName Services chooses where the controller connects, from its place in
//! the network. Some places are never a backend: the machine itself, link-local addresses and metadata services of
//! clouds, and the controller's own listeners. The compiler asks for addresses that are written down, the data plane
//! asks again for each address that a name resolves to, right before it connects: what a name meant a moment earlier
//! proves nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The well-known prefix of NAT64, `64:ff9b::/96` (RFC 6052 section 2.1): the last 32 bits are an IPv4 address.
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// Services of clouds about the machine, on addresses that are not link-local.
const METADATA: [IpAddr; 5] = [
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Azure: the wire server.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Oracle Cloud.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Amazon EC2.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Google Cloud.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Why an address is not used.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The API server. Names must not lead there; an EndpointSlice may.
    #[error("it is the address of the Kubernetes API server")]
    ApiServer,
    /// Link-local.
    #[error("it is a link-local address")]
    LinkLocal,
    /// Loopback.
    #[error("it is a loopback address, which leads back to Handfast's own machine")]
    Loopback,
    /// A metadata service.
    #[error("it is the address of a cloud's metadata service")]
    Metadata,
    /// Multicast or broadcast.
    #[error("it is a multicast or broadcast address")]
    Multicast,
    /// A listener of this process.
    #[error("it is an address of Handfast itself, so requests would go round in a circle")]
    Own,
    /// `0.0.0.0/8` ("this network", RFC 1122 section 3.2.1.3) or `::`.
    #[error("it is the unspecified address")]
    Unspecified,
}

/// What may be reached from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether endpoints on this machine are used.
    pub loopback: bool,
    /// Addresses of this machine or pod, beside loopback.
    pub own_addresses: Vec<IpAddr>,
    /// What this process listens on. An unspecified address means all of this machine.
    pub listeners: Vec<SocketAddr>,
    /// Addresses of the API server.
    pub api_server: Vec<SocketAddr>,
}

impl Reach {
    /// Judges an address that an EndpointSlice names.
    pub fn endpoint(&self, address: SocketAddr) -> Result<(), Unreachable> {
        let ip = embedded(address.ip());
        let (is_link_local, is_broadcast, is_unspecified) = match ip {
            IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast(), v4.octets()[0] == 0),
            IpAddr::V6(v6) => (v6.is_unicast_link_local(), false, v6.is_unspecified()),
        };
        if is_unspecified {
            return Err(Unreachable::Unspecified);
        }
        if ip.is_loopback() && !self.loopback {
            return Err(Unreachable::Loopback);
        }
        if METADATA.contains(&ip) {
            return Err(Unreachable::Metadata);
        }
        if is_link_local {
            return Err(Unreachable::LinkLocal);
        }
        if ip.is_multicast() || is_broadcast {
            return Err(Unreachable::Multicast);
        }
        if self.is_own(ip, address.port()) {
            return Err(Unreachable::Own);
        }
        Ok(())
    }

    /// Judges an address that a name of an ExternalName Service resolves to, or that stands in its place.
    pub fn external(&self, address: SocketAddr) -> Result<(), Unreachable> {
        self.endpoint(address)?;
        let plain = SocketAddr::new(embedded(address.ip()), address.port());
        if self.api_server.contains(&plain) {
            return Err(Unreachable::ApiServer);
        }
        Ok(())
    }

    fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        self.listeners.iter().filter(|listener| listener.port() == port).any(|listener| {
            let bound = embedded(listener.ip());
            bound == ip || (listener.ip().is_unspecified() && (ip.is_loopback() || self.own_addresses.contains(&ip)))
        })
    }
}

/// The IPv4 address inside a mapped (RFC 4291 section 2.5.5.2), compatible (2.5.5.1) or NAT64 address, since packets end
/// up there; other addresses as they are.
fn embedded(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    let IpAddr::V6(v6) = address else { return address };
    let segments = v6.segments();
    let [.., high, low] = segments;
    let compatible = segments.starts_with(&[0; 6]) && high != 0;
    if compatible || segments.starts_with(&NAT64) {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach() -> Reach {
        Reach {
            loopback: false,
            own_addresses: vec!["10.1.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            listeners: vec!["[::]:8080".parse().unwrap(), "10.1.0.8:8443".parse().unwrap()],
            api_server: vec!["10.96.0.1:443".parse().unwrap()],
        }
    }

    #[test]
    fn places_that_are_never_a_backend_are_refused_in_every_form() {
        use Unreachable::*;
        let rows = [
            ("127.0.0.1:80", Some(Loopback)),
            ("127.9.9.9:80", Some(Loopback)),
            ("[::1]:80", Some(Loopback)),
            ("[::ffff:127.0.0.1]:80", Some(Loopback)),
            ("[::127.0.0.1]:80", Some(Loopback)),
            ("[64:ff9b::127.0.0.1]:80", Some(Loopback)),
            ("0.0.0.0:80", Some(Unspecified)),
            ("0.1.2.3:80", Some(Unspecified)),
            ("[::]:80", Some(Unspecified)),
            ("169.254.169.254:80", Some(LinkLocal)),
            ("[::ffff:169.254.169.254]:80", Some(LinkLocal)),
            ("[64:ff9b::a9fe:a9fe]:80", Some(LinkLocal)),
            ("[fe80::1]:80", Some(LinkLocal)),
            ("100.100.100.200:80", Some(Metadata)),
            ("168.63.129.16:80", Some(Metadata)),
            ("192.0.0.192:80", Some(Metadata)),
            ("[fd00:ec2::254]:80", Some(Metadata)),
            ("[fd20:ce::254]:80", Some(Metadata)),
            ("224.0.0.1:80", Some(Multicast)),
            ("255.255.255.255:80", Some(Multicast)),
            ("[ff02::1]:80", Some(Multicast)),
            ("10.1.0.7:8080", Some(Own)),
            ("[fd00::7]:8080", Some(Own)),
            ("[::ffff:10.1.0.7]:8080", Some(Own)),
            ("10.1.0.8:8443", Some(Own)),
            // The same node, another port; another pod, the same port.
            ("10.1.0.7:3000", None),
            ("10.1.0.9:8080", None),
            ("10.1.0.7:8443", None),
            ("100.100.100.201:80", None),
            ("192.168.0.1:80", None),
            ("[2001:db8::1]:80", None),
            ("10.96.0.1:443", None),
        ];
        for (address, expected) in rows {
            assert_eq!(reach().endpoint(address.parse().unwrap()).err(), expected, "{address}");
        }
    }

    #[test]
    fn names_must_not_lead_to_the_api_server() {
        assert_eq!(reach().external("10.96.0.1:443".parse().unwrap()), Err(Unreachable::ApiServer));
        assert_eq!(reach().external("[::ffff:10.96.0.1]:443".parse().unwrap()), Err(Unreachable::ApiServer));
        assert_eq!(reach().external("10.96.0.1:80".parse().unwrap()), Ok(()));
        assert_eq!(reach().external("127.0.0.1:80".parse().unwrap()), Err(Unreachable::Loopback));
    }

    #[test]
    fn own_listeners_are_refused_where_loopback_is_allowed_too() {
        let reach = Reach { loopback: true, ..reach() };
        assert_eq!(reach.endpoint("127.0.0.1:3000".parse().unwrap()), Ok(()));
        assert_eq!(reach.endpoint("127.0.0.1:8080".parse().unwrap()), Err(Unreachable::Own));
        assert_eq!(reach.endpoint("[::1]:8080".parse().unwrap()), Err(Unreachable::Own));
        assert_eq!(reach.endpoint("127.0.0.1:8443".parse().unwrap()), Ok(()), "bound to one address only");
    }
}
