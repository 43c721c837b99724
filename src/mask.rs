//! Addresses of clients, as far as they may be shown: `--mask-clients`.
//!
//! Where an address is personal data, a network is often enough to see who fails: one office, one provider, everybody.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use crate::snapshot::canonical_ip;

/// Whether addresses are shown whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddresses {
    /// Cut to their network.
    Masked,
    /// As they are.
    #[default]
    Whole,
}

/// An address to be shown: the address, or its network. Displays and serializes as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShownClient {
    /// The whole address.
    Address(IpAddr),
    /// The network that it is in.
    Network(IpNet),
}

impl ClientAddresses {
    /// The choice that `--mask-clients` makes.
    pub fn new(mask: bool) -> Self {
        if mask { Self::Masked } else { Self::Whole }
    }

    /// What is shown of an address.
    pub fn show(self, address: IpAddr) -> ShownClient {
        match self {
            Self::Masked => ShownClient::Network(masked(address)),
            Self::Whole => ShownClient::Address(canonical_ip(address)),
        }
    }
}

/// The network of an address: /24 of IPv4, also when it is written as IPv6, and /48 of IPv6, which is the most that one
/// site usually has.
pub fn masked(address: IpAddr) -> IpNet {
    let address = canonical_ip(address);
    let length = if address.is_ipv4() { 24 } else { 48 };
    IpNet::new(address, length).expect("invariant: both lengths exist").trunc()
}

impl fmt::Display for ShownClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl Serialize for ShownClient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_addresses_are_networks_without_what_tells_machines_apart() {
        for (address, network) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("255.255.255.255", "255.255.255.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
            ("2001:db8:1:ffff::1", "2001:db8:1::/48"),
            ("::1", "::/48"),
            ("64:ff9b::192.0.2.77", "64:ff9b::/48"),
        ] {
            assert_eq!(masked(address.parse().unwrap()).to_string(), network, "{address}");
        }
    }

    #[test]
    fn addresses_are_shown_as_the_option_says() {
        let shown = |mask: bool, text: &str| {
            let shown = ClientAddresses::new(mask).show(text.parse().unwrap());
            assert_eq!(serde_json::to_value(shown).unwrap(), shown.to_string());
            shown.to_string()
        };
        assert_eq!(shown(false, "192.0.2.77"), "192.0.2.77");
        assert_eq!(shown(false, "::ffff:192.0.2.77"), "192.0.2.77");
        assert_eq!(shown(true, "192.0.2.77"), "192.0.2.0/24");
        assert_eq!(shown(true, "2001:db8::1"), "2001:db8::/48");
    }
}
