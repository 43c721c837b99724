//! Each way a handshake fails: label, whose fault it is, the alert we send, and the remedy.
//!
//! `what the peer sent, or rustls::Error ──▶ Reason ──▶ counter, alert, log line`
//!
//! Closed, and without data: a label never carries bytes from the network. Facts behind the mapping: a client's
//! rejection of our certificate reaches us as an alert, as a silent close, or not at all.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Why a connection to the TLS port did not become a working TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The client ended the handshake with an alert that does not speak of our certificate.
    ClientAlert,
    /// The client closed the handshake in good order (`close_notify` or `user_canceled`).
    ClientCancelled,
    /// The client's certificate, or one above it, has expired (RFC 5280 section 6.1.3).
    ClientCertificateExpired,
    /// The client's certificate cannot be used for another cause than those that have a reason of their own: it is malformed,
    /// a signature does not verify or is of a kind that we do not verify, or a constraint of its issuer is violated.
    ClientCertificateInvalid,
    /// The host asks for a certificate, and the client sent none (RFC 8446 section 4.4.2.4).
    ClientCertificateMissing,
    /// The client's certificate, or one above it, is not valid yet (RFC 5280 section 6.1.3).
    ClientCertificateNotValidYet,
    /// The host's revocation lists (`ca.crl`) say nothing about the client's certificate, or one above it: its issuer has
    /// no list there, or one that has expired or that its issuer's key has not signed (RFC 5280 section 6.3).
    ClientCertificateRevocationUnknown,
    /// The client's certificate, or one above it, is in its issuer's revocation list (RFC 5280 section 6.3).
    ClientCertificateRevoked,
    /// No chain leads from the client's certificate to the host's client CAs: another issuer, or the client left its
    /// intermediates out.
    ClientCertificateUnknownCa,
    /// The client's certificate may not be used for clients (RFC 5280 section 4.2.1.12).
    ClientCertificateWrongPurpose,
    /// The client closed or reset the connection after it had seen our certificate, without an alert. Node and some
    /// BoringSSL clients reject certificates in this way.
    ClosedAfterCertificate,
    /// The client closed the connection in the middle of its first message.
    ClosedInHello,
    /// A message did not decrypt or verify, here or at the client: bytes changed on the way, or a middlebox answers
    /// in our place.
    CryptoMismatch,
    /// The host is configured, but its Secret holds nothing that can be served, and there is no default certificate.
    HostRefused,
    /// The host is configured without TLS, and neither a wildcard host's certificate nor a default certificate covers it.
    HostWithoutTls,
    /// A fault of ours.
    Internal,
    /// The first message is TLS, but not a well-formed ClientHello (RFC 8446 section 4.1.2).
    MalformedHello,
    /// The client named no server (RFC 6066 section 3), and there is no default certificate.
    NoServerName,
    /// The client asked for application protocols that this host does not speak (RFC 7301 section 3.2).
    NoSharedAlpn,
    /// The client offers no key exchange group that this host has, or only static RSA.
    NoSharedGroup,
    /// The client cannot verify a signature by the key of this host's certificate.
    NoSharedSignatureScheme,
    /// The client offers no cipher suite that works with this host's certificate (RFC 8446 section 4.1.1).
    NoSharedSuite,
    /// The client offers only protocol versions that this host does not serve. Usual cause: TLS 1.0 and 1.1 clients.
    NoSharedVersion,
    /// The first bytes are neither TLS nor any protocol that we recognise.
    NotTls,
    /// A limit on connections or handshakes was reached; the connection was closed at once.
    Overloaded,
    /// Plain HTTP on the TLS port. Answered with a 400 that says so.
    PlainHttp,
    /// The client broke the protocol after a well-formed ClientHello.
    ProtocolViolation,
    /// A PROXY protocol header, and this listener does not expect one.
    ProxyHeader,
    /// This listener expects a PROXY protocol header, and none came, or a malformed one.
    ProxyHeaderMissing,
    /// The client says that our certificate is expired (`certificate_expired`). If it is not, the client's clock is wrong.
    RejectedExpired,
    /// The client says that our certificate is revoked (`certificate_revoked`).
    RejectedRevoked,
    /// The client did not accept the OCSP response (`bad_certificate_status_response`).
    RejectedStaple,
    /// The client knows no issuer of our certificate (`unknown_ca`): an incomplete chain, or a private CA.
    RejectedUnknownCa,
    /// The client rejects our certificate without saying why (`bad_certificate`, `certificate_unknown`), as Java, Go and
    /// GnuTLS do for every cause.
    RejectedUnspecified,
    /// The client cannot use our certificate (`unsupported_certificate`), for example because it may not serve TLS.
    RejectedUnsupported,
    /// The connection was reset in the middle of the client's first message.
    ResetInHello,
    /// The client lists no signature algorithms, so it can verify only SHA-1 signatures (RFC 5246 section 7.4.1.4.1).
    Sha1Only,
    /// An SSH client on the TLS port.
    Ssh,
    /// An SSL 2.0 hello. Such clients cannot be served (RFC 6176).
    Sslv2,
    /// The client went silent after we had sent our certificate; often our answer never arrives (MTU).
    TimeoutAfterCertificate,
    /// The client connected and sent nothing until the deadline.
    TimeoutBeforeHello,
    /// The client's first message did not become complete until the deadline.
    TimeoutInHello,
    /// No Ingress has this host name, and there is no default certificate (RFC 6066 section 3).
    UnknownHost,
}

/// Whose fault a failure is: who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blame {
    /// The host's certificate, key or `tls` entry.
    Certificate,
    /// The client.
    Client,
    /// Something between the client and us.
    Network,
    /// What the operator's policy leaves out.
    Policy,
    /// Handfast itself, or its capacity.
    Server,
}

impl Blame {
    /// The value of the `blame` label.
    pub fn label(self) -> &'static str {
        match self {
            Blame::Certificate => "certificate",
            Blame::Client => "client",
            Blame::Network => "network",
            Blame::Policy => "policy",
            Blame::Server => "server",
        }
    }
}

impl Reason {
    /// Every reason.
    pub const ALL: &[Reason] = &[
        Reason::ClientAlert,
        Reason::ClientCancelled,
        Reason::ClientCertificateExpired,
        Reason::ClientCertificateInvalid,
        Reason::ClientCertificateMissing,
        Reason::ClientCertificateNotValidYet,
        Reason::ClientCertificateRevocationUnknown,
        Reason::ClientCertificateRevoked,
        Reason::ClientCertificateUnknownCa,
        Reason::ClientCertificateWrongPurpose,
        Reason::ClosedAfterCertificate,
        Reason::ClosedInHello,
        Reason::CryptoMismatch,
        Reason::HostRefused,
        Reason::HostWithoutTls,
        Reason::Internal,
        Reason::MalformedHello,
        Reason::NoServerName,
        Reason::NoSharedAlpn,
        Reason::NoSharedGroup,
        Reason::NoSharedSignatureScheme,
        Reason::NoSharedSuite,
        Reason::NoSharedVersion,
        Reason::NotTls,
        Reason::Overloaded,
        Reason::PlainHttp,
        Reason::ProtocolViolation,
        Reason::ProxyHeader,
        Reason::ProxyHeaderMissing,
        Reason::RejectedExpired,
        Reason::RejectedRevoked,
        Reason::RejectedStaple,
        Reason::RejectedUnknownCa,
        Reason::RejectedUnspecified,
        Reason::RejectedUnsupported,
        Reason::ResetInHello,
        Reason::Sha1Only,
        Reason::Ssh,
        Reason::Sslv2,
        Reason::TimeoutAfterCertificate,
        Reason::TimeoutBeforeHello,
        Reason::TimeoutInHello,
        Reason::UnknownHost,
    ];

    /// The value of the `reason` label; kebab-case and stable.
    pub fn label(self) -> &'static str {
        match self {
            Reason::ClientAlert => "client-alert",
            Reason::ClientCancelled => "client-cancelled",
            Reason::ClientCertificateExpired => "client-certificate-expired",
            Reason::ClientCertificateInvalid => "client-certificate-invalid",
            Reason::ClientCertificateMissing => "client-certificate-missing",
            Reason::ClientCertificateNotValidYet => "client-certificate-not-valid-yet",
            Reason::ClientCertificateRevocationUnknown => "client-certificate-revocation-unknown",
            Reason::ClientCertificateRevoked => "client-certificate-revoked",
            Reason::ClientCertificateUnknownCa => "client-certificate-unknown-ca",
            Reason::ClientCertificateWrongPurpose => "client-certificate-wrong-purpose",
            Reason::ClosedAfterCertificate => "closed-after-certificate",
            Reason::ClosedInHello => "closed-in-hello",
            Reason::CryptoMismatch => "crypto-mismatch",
            Reason::HostRefused => "host-refused",
            Reason::HostWithoutTls => "host-without-tls",
            Reason::Internal => "internal",
            Reason::MalformedHello => "malformed-hello",
            Reason::NoServerName => "no-server-name",
            Reason::NoSharedAlpn => "no-shared-alpn",
            Reason::NoSharedGroup => "no-shared-group",
            Reason::NoSharedSignatureScheme => "no-shared-signature-scheme",
            Reason::NoSharedSuite => "no-shared-suite",
            Reason::NoSharedVersion => "no-shared-version",
            Reason::NotTls => "not-tls",
            Reason::Overloaded => "overloaded",
            Reason::PlainHttp => "plain-http",
            Reason::ProtocolViolation => "protocol-violation",
            Reason::ProxyHeader => "proxy-header",
            Reason::ProxyHeaderMissing => "proxy-header-missing",
            Reason::RejectedExpired => "rejected-expired",
            Reason::RejectedRevoked => "rejected-revoked",
            Reason::RejectedStaple => "rejected-staple",
            Reason::RejectedUnknownCa => "rejected-unknown-ca",
            Reason::RejectedUnspecified => "rejected-unspecified",
            Reason::RejectedUnsupported => "rejected-unsupported",
            Reason::ResetInHello => "reset-in-hello",
            Reason::Sha1Only => "sha1-only",
            Reason::Ssh => "ssh",
            Reason::Sslv2 => "sslv2",
            Reason::TimeoutAfterCertificate => "timeout-after-certificate",
            Reason::TimeoutBeforeHello => "timeout-before-hello",
            Reason::TimeoutInHello => "timeout-in-hello",
            Reason::UnknownHost => "unknown-host",
        }
    }

    /// Whose fault it is.
    pub fn blame(self) -> Blame {
        match self {
            Reason::ClosedAfterCertificate
            | Reason::HostRefused
            | Reason::HostWithoutTls
            | Reason::NoSharedSignatureScheme
            | Reason::RejectedExpired
            | Reason::RejectedRevoked
            | Reason::RejectedStaple
            | Reason::RejectedUnknownCa
            | Reason::RejectedUnspecified
            | Reason::RejectedUnsupported => Blame::Certificate,
            Reason::ClientAlert
            | Reason::ClientCancelled
            | Reason::ClientCertificateExpired
            | Reason::ClientCertificateInvalid
            | Reason::ClientCertificateMissing
            | Reason::ClientCertificateNotValidYet
            | Reason::ClientCertificateRevoked
            | Reason::ClientCertificateUnknownCa
            | Reason::ClientCertificateWrongPurpose
            | Reason::MalformedHello
            | Reason::NoServerName
            | Reason::NoSharedAlpn
            | Reason::NoSharedGroup
            | Reason::NoSharedSuite
            | Reason::NoSharedVersion
            | Reason::NotTls
            | Reason::PlainHttp
            | Reason::ProtocolViolation
            | Reason::Sha1Only
            | Reason::Ssh
            | Reason::Sslv2
            | Reason::UnknownHost => Blame::Client,
            Reason::ClosedInHello
            | Reason::CryptoMismatch
            | Reason::ProxyHeader
            | Reason::ProxyHeaderMissing
            | Reason::ResetInHello
            | Reason::TimeoutAfterCertificate
            | Reason::TimeoutBeforeHello
            | Reason::TimeoutInHello => Blame::Network,
            Reason::ClientCertificateRevocationUnknown => Blame::Policy,
            Reason::Internal | Reason::Overloaded => Blame::Server,
        }
    }

    /// The fatal alert that we send when we are the one who ends the handshake (RFC 8446 section 6.2). `None` where the
    /// client ended it, or where it does not speak TLS.
    pub fn alert(self) -> Option<AlertDescription> {
        match self {
            Reason::ClientCertificateInvalid => Some(AlertDescription::BadCertificate),
            Reason::ClientCertificateExpired | Reason::ClientCertificateNotValidYet => {
                Some(AlertDescription::CertificateExpired)
            }
            Reason::ClientCertificateMissing => Some(AlertDescription::CertificateRequired),
            Reason::MalformedHello => Some(AlertDescription::DecodeError),
            Reason::CryptoMismatch => Some(AlertDescription::DecryptError),
            Reason::NoSharedGroup | Reason::NoSharedSignatureScheme | Reason::NoSharedSuite | Reason::Sha1Only => {
                Some(AlertDescription::HandshakeFailure)
            }
            Reason::Internal => Some(AlertDescription::InternalError),
            Reason::NoSharedAlpn => Some(AlertDescription::NoApplicationProtocol),
            Reason::NoSharedVersion | Reason::Sslv2 => Some(AlertDescription::ProtocolVersion),
            Reason::ProtocolViolation => Some(AlertDescription::UnexpectedMessage),
            Reason::ClientCertificateRevocationUnknown | Reason::ClientCertificateUnknownCa => {
                Some(AlertDescription::UnknownCA)
            }
            Reason::ClientCertificateRevoked => Some(AlertDescription::CertificateRevoked),
            Reason::HostRefused | Reason::HostWithoutTls | Reason::NoServerName | Reason::UnknownHost => {
                Some(AlertDescription::UnrecognisedName)
            }
            Reason::ClientCertificateWrongPurpose => Some(AlertDescription::UnsupportedCertificate),
            Reason::ClientAlert
            | Reason::ClientCancelled
            | Reason::ClosedAfterCertificate
            | Reason::ClosedInHello
            | Reason::NotTls
            | Reason::Overloaded
            | Reason::PlainHttp
            | Reason::ProxyHeader
            | Reason::ProxyHeaderMissing
            | Reason::RejectedExpired
            | Reason::RejectedRevoked
            | Reason::RejectedStaple
            | Reason::RejectedUnknownCa
            | Reason::RejectedUnspecified
            | Reason::RejectedUnsupported
            | Reason::ResetInHello
            | Reason::Ssh
            | Reason::TimeoutAfterCertificate
            | Reason::TimeoutBeforeHello
            | Reason::TimeoutInHello => None,
        }
    }

    /// What happened, in whole sentences.
    pub fn meaning(self) -> &'static str {
        match self {
            Reason::ClientAlert => {
                "The client ended the handshake with an alert that does not speak of our certificate."
            }
            Reason::ClientCancelled => "The client closed the handshake in good order (close_notify or user_canceled).",
            Reason::ClientCertificateExpired => {
                "The client's certificate, or one above it, has expired (RFC 5280 section 6.1.3)."
            }
            Reason::ClientCertificateInvalid => {
                "The client's certificate cannot be used: it is malformed, a signature does not verify (also because a CA of the same name has another key now) or is of a kind that is not verified, or a constraint of its issuer is violated."
            }
            Reason::ClientCertificateMissing => {
                "The host asks for a certificate, and the client sent none (RFC 8446 section 4.4.2.4)."
            }
            Reason::ClientCertificateNotValidYet => {
                "The client's certificate, or one above it, is not valid yet (RFC 5280 section 6.1.3)."
            }
            Reason::ClientCertificateRevocationUnknown => {
                "The host's revocation lists (ca.crl) say nothing about the client's certificate, or one above it: its issuer has no list there, or one that has expired or that is not signed with the issuer's key (RFC 5280 section 6.3)."
            }
            Reason::ClientCertificateRevoked => {
                "The client's certificate, or one above it, is in its issuer's revocation list (RFC 5280 section 6.3)."
            }
            Reason::ClientCertificateUnknownCa => {
                "No chain leads from the client's certificate to the host's client CAs: another issuer, or the client left its intermediates out."
            }
            Reason::ClientCertificateWrongPurpose => {
                "The client's certificate may not be used for clients (extended key usage without clientAuth, RFC 5280 section 4.2.1.12)."
            }
            Reason::ClosedAfterCertificate => {
                "The client closed or reset the connection after it had seen our certificate, without an alert. Node and some BoringSSL clients reject certificates in this way."
            }
            Reason::ClosedInHello => "The client closed the connection in the middle of its first message.",
            Reason::CryptoMismatch => {
                "A message did not decrypt or verify, here or at the client: bytes changed on the way, or a middlebox answers in our place."
            }
            Reason::HostRefused => {
                "The host is configured, but its Secret holds nothing that can be served, and there is no default certificate."
            }
            Reason::HostWithoutTls => {
                "The host is configured without TLS, and neither a wildcard host's certificate nor a default certificate covers it."
            }
            Reason::Internal => "A fault of Handfast itself.",
            Reason::MalformedHello => {
                "The first message is TLS, but not a well-formed ClientHello (RFC 8446 section 4.1.2)."
            }
            Reason::NoServerName => {
                "The client named no server (RFC 6066 section 3), and there is no default certificate."
            }
            Reason::NoSharedAlpn => {
                "The client asked for application protocols that this host does not speak (RFC 7301 section 3.2)."
            }
            Reason::NoSharedGroup => "The client offers no key exchange group that this host has, or only static RSA.",
            Reason::NoSharedSignatureScheme => {
                "The client cannot verify a signature by the key of this host's certificate."
            }
            Reason::NoSharedSuite => {
                "The client offers no cipher suite that works with this host's certificate (RFC 8446 section 4.1.1)."
            }
            Reason::NoSharedVersion => {
                "The client offers only protocol versions that this host does not serve: usually TLS 1.0 and 1.1."
            }
            Reason::NotTls => "The first bytes are neither TLS nor any protocol that is recognised.",
            Reason::Overloaded => {
                "A limit on connections or handshakes was reached, and the connection was closed at once."
            }
            Reason::PlainHttp => "Plain HTTP came to the TLS port. It is answered with a 400 that says so.",
            Reason::ProtocolViolation => "The client broke the protocol after a well-formed ClientHello.",
            Reason::ProxyHeader => "A PROXY protocol header came, and this listener does not expect one.",
            Reason::ProxyHeaderMissing => {
                "This listener expects a PROXY protocol header, and none came, or a malformed one."
            }
            Reason::RejectedExpired => {
                "The client says that our certificate is expired (certificate_expired). If it is not, the client's clock is wrong."
            }
            Reason::RejectedRevoked => "The client says that our certificate is revoked (certificate_revoked).",
            Reason::RejectedStaple => "The client did not accept the OCSP response (bad_certificate_status_response).",
            Reason::RejectedUnknownCa => {
                "The client knows no issuer of our certificate (unknown_ca): an incomplete chain, or a private CA."
            }
            Reason::RejectedUnspecified => {
                "The client rejects our certificate without saying why (bad_certificate, certificate_unknown), as Java, Go and GnuTLS do for every cause."
            }
            Reason::RejectedUnsupported => {
                "The client cannot use our certificate (unsupported_certificate), for example because it may not be used for servers."
            }
            Reason::ResetInHello => "The connection was reset in the middle of the client's first message.",
            Reason::Sha1Only => {
                "The client lists no signature algorithms, so it can verify only SHA-1 signatures (RFC 5246 section 7.4.1.4.1)."
            }
            Reason::Ssh => "An SSH client came to the TLS port.",
            Reason::Sslv2 => "The client sent an SSL 2.0 hello. Such clients cannot be served (RFC 6176).",
            Reason::TimeoutAfterCertificate => {
                "The client went silent after our certificate was sent; often our answer never arrives, because it is larger than the path's MTU."
            }
            Reason::TimeoutBeforeHello => "The client connected and sent nothing until the deadline.",
            Reason::TimeoutInHello => "The client's first message did not become complete until the deadline.",
            Reason::UnknownHost => {
                "No Ingress has this host name, and there is no default certificate (RFC 6066 section 3)."
            }
        }
    }

    /// What the operator can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Reason::ClientAlert => {
                "look at the client's own log: its settings (for example a minimum version) refuse what this host offers"
            }
            Reason::ClientCancelled => {
                "nothing, unless it happens often: then the client gives up early, for example on a slow path"
            }
            Reason::ClientCertificateExpired => {
                "renew the client's certificate; if it is in date, correct this machine's clock"
            }
            Reason::ClientCertificateInvalid => {
                "compare it with the host's client CAs: `openssl verify -CAfile ca.crt -purpose sslclient -untrusted intermediates.pem client.pem`"
            }
            Reason::ClientCertificateMissing => {
                "give the client a certificate and its key; if it has one, let it be issued by one of the host's client CAs, because clients send none that these did not issue"
            }
            Reason::ClientCertificateNotValidYet => "wait, or correct the clock of the CA or of this machine",
            Reason::ClientCertificateRevocationUnknown => {
                "put the current list of each issuer, intermediates included, into ca.crl of the Secret with the host's client CAs"
            }
            Reason::ClientCertificateRevoked => {
                "give the client a new certificate; if this one was not to be revoked, put the CA's current list into ca.crl of the Secret"
            }
            Reason::ClientCertificateUnknownCa => {
                "let the client send its intermediates, or add its CA to the Secret with the host's client CAs"
            }
            Reason::ClientCertificateWrongPurpose => {
                "have the client's certificate issued for client authentication (extended key usage clientAuth)"
            }
            Reason::ClosedAfterCertificate => {
                "treat it like a rejected certificate: check chain, names and dates of the host's certificate"
            }
            Reason::ClosedInHello => {
                "check for a middlebox that cuts large first messages (post-quantum hellos are longer than one packet)"
            }
            Reason::CryptoMismatch => "look for a TLS-intercepting device between client and host",
            Reason::HostRefused => "run `handfast check`: it names the Secret and what is wrong with it",
            Reason::HostWithoutTls => "add a `tls` entry for the host to its Ingress, or set --default-tls-secret",
            Reason::Internal => "please report it with the log lines around it",
            Reason::MalformedHello => "capture the connection: a scanner, or a broken client",
            Reason::NoServerName => "let the client send SNI, or set --default-tls-secret",
            Reason::NoSharedAlpn => "let the client offer h2 or http/1.1",
            Reason::NoSharedGroup => "update the client: it needs X25519, P-256 or P-384",
            Reason::NoSharedSignatureScheme => "use a certificate with a P-256 or RSA key",
            Reason::NoSharedSuite => {
                "update the client: it needs an ECDHE suite with AES-GCM or ChaCha20 for this certificate's key type"
            }
            Reason::NoSharedVersion => "update the client: TLS 1.2 is the oldest version served (RFC 8996)",
            Reason::NotTls => "find out who connects: a scanner, or a client with the wrong port",
            Reason::Overloaded => "add replicas or workers, or raise --max-connections or --max-handshakes",
            Reason::PlainHttp => "use https:// for this port",
            Reason::ProtocolViolation => "capture the connection: a broken client or a scanner",
            Reason::ProxyHeader => "switch --proxy-protocol on, or the load balancer's PROXY protocol off",
            Reason::ProxyHeaderMissing => "switch the load balancer's PROXY protocol on, or --proxy-protocol off",
            Reason::RejectedExpired => {
                "renew the certificate; if `handfast check` finds it in date, correct the client's clock"
            }
            Reason::RejectedRevoked => "have the certificate issued again",
            Reason::RejectedStaple => "have the certificate issued again without must-staple",
            Reason::RejectedUnknownCa => {
                "add the intermediate certificates to tls.crt, or the private root to the client's trust store"
            }
            Reason::RejectedUnspecified => {
                "check chain, names and dates of the host's certificate with `handfast check`"
            }
            Reason::RejectedUnsupported => {
                "have the certificate issued for server authentication, with a common key type"
            }
            Reason::ResetInHello => "check for a middlebox that resets large or unknown first messages",
            Reason::Sha1Only => "update the client: it needs SHA-256 signatures",
            Reason::Ssh => "correct the client's port",
            Reason::Sslv2 => "update the client",
            Reason::TimeoutAfterCertificate => "check the path MTU between client and host",
            Reason::TimeoutBeforeHello => "find out who holds connections open: a health check, or a port scanner",
            Reason::TimeoutInHello => {
                "check the path MTU and middleboxes: post-quantum hellos are longer than one packet"
            }
            Reason::UnknownHost => "add the host to an Ingress of this class, or correct the client's URL or DNS",
        }
    }

    /// The reason behind an error of rustls.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::DecryptError => Reason::CryptoMismatch,
            Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => Reason::MalformedHello,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::InvalidEncryptedClientHello(_)
            | Error::BadMaxFragmentSize => Reason::ProtocolViolation,
            Error::NoApplicationProtocol => Reason::NoSharedAlpn,
            Error::NoCertificatesPresented => Reason::ClientCertificateMissing,
            Error::InvalidCertificate(error) => Self::of_client_certificate(error),
            Error::InvalidCertRevocationList(_) => Reason::ClientCertificateRevocationUnknown,
            Error::PeerIncompatible(incompatible) => match incompatible {
                PeerIncompatible::NoCipherSuitesInCommon => Reason::NoSharedSuite,
                PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NamedGroupsExtensionRequired
                | PeerIncompatible::NoEcPointFormatsInCommon
                | PeerIncompatible::UncompressedEcPointsRequired => Reason::NoSharedGroup,
                PeerIncompatible::NoSignatureSchemesInCommon => Reason::NoSharedSignatureScheme,
                PeerIncompatible::SignatureAlgorithmsExtensionRequired => Reason::Sha1Only,
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled => Reason::NoSharedVersion,
                // The rest is about extensions that a client must send and did not; the enum is open.
                _ => Reason::ProtocolViolation,
            },
            // A P-384 or P-521 leaf and a TLS 1.2 client that cannot verify it; rustls has no better word for it.
            Error::General(text) if text == "incompatible signing key" => Reason::NoSharedSignatureScheme,
            // Everything else does not depend on the peer; rustls keeps this enum open.
            _ => Reason::Internal,
        }
    }

    /// What is wrong with a client's certificate. Here at the server, rustls judges no other.
    fn of_client_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::ClientCertificateExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Reason::ClientCertificateNotValidYet
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Reason::ClientCertificateWrongPurpose
            }
            CertificateError::Revoked => Reason::ClientCertificateRevoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Reason::ClientCertificateRevocationUnknown,
            CertificateError::UnknownIssuer => Reason::ClientCertificateUnknownCa,
            // Encoding, signatures, constraints; the enum is open.
            _ => Reason::ClientCertificateInvalid,
        }
    }

    /// What a client's alert says.
    pub fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CloseNotify | AlertDescription::UserCanceled => Reason::ClientCancelled,
            AlertDescription::UnknownCA => Reason::RejectedUnknownCa,
            AlertDescription::CertificateExpired => Reason::RejectedExpired,
            AlertDescription::CertificateRevoked => Reason::RejectedRevoked,
            AlertDescription::UnsupportedCertificate => Reason::RejectedUnsupported,
            AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => Reason::RejectedUnspecified,
            AlertDescription::BadCertificateStatusResponse => Reason::RejectedStaple,
            AlertDescription::DecryptError | AlertDescription::BadRecordMac => Reason::CryptoMismatch,
            // Alerts are a registry that grows.
            _ => Reason::ClientAlert,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
