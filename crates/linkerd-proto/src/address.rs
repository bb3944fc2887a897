//! Conversions between the addresses of the wire and those of `std`.
//! Total towards the wire; fallible from it, because a message may lack parts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::net::{IPv6, IpAddress, TcpAddress, ip_address::Ip};

/// What is wrong with an address on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidAddress {
    /// It has no IP, or an IP of no family.
    IpMissing,
    /// Its port is above 65535.
    PortTooLarge(u32),
}

impl From<IpAddr> for IpAddress {
    fn from(ip: IpAddr) -> Self {
        let ip = match ip {
            IpAddr::V4(ip) => Ip::Ipv4(ip.to_bits()),
            IpAddr::V6(ip) => Ip::Ipv6(ip.into()),
        };
        Self { ip: Some(ip) }
    }
}

impl From<Ipv6Addr> for IPv6 {
    fn from(ip: Ipv6Addr) -> Self {
        let bits = ip.to_bits();
        // Each half is cut to its 64 bits on purpose.
        Self {
            first: (bits >> 64) as u64,
            last: bits as u64,
        }
    }
}

impl From<IPv6> for Ipv6Addr {
    fn from(ip: IPv6) -> Self {
        Self::from_bits(u128::from(ip.first) << 64 | u128::from(ip.last))
    }
}

impl TryFrom<IpAddress> for IpAddr {
    type Error = InvalidAddress;

    fn try_from(address: IpAddress) -> Result<Self, InvalidAddress> {
        match address.ip.ok_or(InvalidAddress::IpMissing)? {
            Ip::Ipv4(bits) => Ok(Self::V4(Ipv4Addr::from_bits(bits))),
            Ip::Ipv6(ip) => Ok(Self::V6(ip.into())),
        }
    }
}

impl From<SocketAddr> for TcpAddress {
    fn from(address: SocketAddr) -> Self {
        Self {
            ip: Some(address.ip().into()),
            port: address.port().into(),
        }
    }
}

impl TryFrom<TcpAddress> for SocketAddr {
    type Error = InvalidAddress;

    fn try_from(address: TcpAddress) -> Result<Self, InvalidAddress> {
        let ip = address.ip.ok_or(InvalidAddress::IpMissing)?.try_into()?;
        let port =
            u16::try_from(address.port).map_err(|_| InvalidAddress::PortTooLarge(address.port))?;
        Ok(Self::new(ip, port))
    }
}

impl std::fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::IpMissing => f.write_str("the address has no IP"),
            Self::PortTooLarge(port) => write!(f, "{port} is not a TCP port"),
        }
    }
}

impl std::error::Error for InvalidAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in [
            "10.1.2.3:80",
            "255.255.255.255:65535",
            "[fd00:1:2::3]:0",
            "[::1]:4143",
        ] {
            let address: SocketAddr = text.parse().expect("valid");
            assert_eq!(
                SocketAddr::try_from(TcpAddress::from(address)),
                Ok(address),
                "{text}"
            );
        }
    }

    #[test]
    fn the_first_octet_is_the_most_significant_byte() {
        let address = IpAddress::from(IpAddr::from([1, 2, 3, 4]));
        assert_eq!(address.ip, Some(Ip::Ipv4(0x0102_0304)));
        let address = IpAddress::from("102:304::5".parse::<IpAddr>().expect("valid"));
        assert_eq!(
            address.ip,
            Some(Ip::Ipv6(IPv6 {
                first: 0x0102_0304_0000_0000,
                last: 5
            }))
        );
    }

    #[test]
    fn incomplete_addresses_are_refused() {
        assert_eq!(
            SocketAddr::try_from(TcpAddress::default()),
            Err(InvalidAddress::IpMissing)
        );
        let no_family = TcpAddress {
            ip: Some(IpAddress { ip: None }),
            port: 1,
        };
        assert_eq!(
            SocketAddr::try_from(no_family),
            Err(InvalidAddress::IpMissing)
        );
        let port = TcpAddress {
            ip: Some(IpAddr::from([1, 1, 1, 1]).into()),
            port: 65_536,
        };
        assert_eq!(
            SocketAddr::try_from(port),
            Err(InvalidAddress::PortTooLarge(65_536))
        );
    }
}
