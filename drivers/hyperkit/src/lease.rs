//! Which address macOS gave a guest: the lease file of its DHCP server, `/var/db/dhcpd_leases`.
//!
//! The file is a list of blocks, one `key=value` a line between braces. What is particular about it:
//! - `hw_address=1,a:b:c:…`: a hardware type before the address, and no leading zeros in the address's parts (`0a:00` is `a:0`);
//!   guests that identify themselves otherwise have `ff,` and their own identifier there instead.
//! - A guest may have several leases, and an address several holders over time; `lease` is when it ends, in hexadecimal.
//! - Keys come and go with versions of macOS, and a block may be half written.

use std::fmt;
use std::net::Ipv4Addr;

/// A network card's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mac([u8; 6]);

impl Mac {
    /// Reads it with or without leading zeros.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.trim().split(':');
        for byte in &mut bytes {
            let digits = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let part = parts
                .next()
                .filter(|part| matches!(part.len(), 1 | 2))
                .filter(digits)?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&parts.join(":"))
    }
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The name the guest gave itself; may be empty.
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: Mac,
    /// When it ends, in seconds since 1970; 0 where the file does not say.
    pub(crate) until: u64,
}

/// All leases that can be read, in the file's order. Blocks without a card's address or an IP address are left out.
pub(crate) fn parse(text: &str) -> Vec<Lease> {
    let mut leases = Vec::new();
    let mut block: Option<Block<'_>> = None;
    for line in text.lines().map(str::trim) {
        match line {
            // A block that was not closed is not complete.
            "{" => block = Some(Block::default()),
            "}" => leases.extend(block.take().and_then(|block| block.lease())),
            _ => {
                if let (Some(block), Some((key, value))) = (&mut block, line.split_once('=')) {
                    block.set(key.trim(), value.trim());
                }
            }
        }
    }
    leases
}

#[derive(Default)]
struct Block<'a> {
    name: &'a str,
    address: Option<Ipv4Addr>,
    mac: Option<Mac>,
    until: u64,
}

impl<'a> Block<'a> {
    fn set(&mut self, key: &str, value: &'a str) {
        match key {
            "name" => self.name = value,
            "ip_address" => self.address = value.parse().ok(),
            "hw_address" => {
                self.mac = value
                    .split_once(',')
                    .filter(|(kind, _)| *kind == "1")
                    .and_then(|(_, mac)| Mac::parse(mac));
            }
            "lease" => self.until = u64::from_str_radix(value.trim_start_matches("0x"), 16).unwrap_or(0),
            _ => {}
        }
    }

    fn lease(self) -> Option<Lease> {
        Some(Lease {
            name: self.name.to_owned(),
            address: self.address?,
            mac: self.mac?,
            until: self.until,
        })
    }
}

/// The lease a card holds: the one that ends last (of equals, the first in the file), unless its address went to another card since.
pub(crate) fn of(leases: &[Lease], mac: Mac) -> Option<&Lease> {
    let own = leases.iter().filter(|lease| lease.mac == mac);
    let newest = own.reduce(|best, lease| if lease.until > best.until { lease } else { best })?;
    let given_away = leases.iter().any(|other| {
        other.address == newest.address && other.mac != newest.mac && other.until > newest.until
    });
    (!given_away).then_some(newest)
}

/// The lease of a guest that was never seen before: of this name, of a card that is not among the `known` ones.
pub(crate) fn newcomer<'a>(leases: &'a [Lease], name: &str, known: &[Mac]) -> Option<&'a Lease> {
    let lease = leases
        .iter()
        .find(|lease| lease.name == name && !known.contains(&lease.mac))?;
    of(leases, lease.mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRICKY: &str = "\
{
\tname=demo
\tip_address=192.168.64.3
\thw_address=1,a:0:27:0:1:f
\tidentifier=1,a:0:27:0:1:f
\tlease=0x597e1267
}
{
\tname=demo
\tip_address=192.168.64.9
\thw_address=1,0a:00:27:00:01:0F
\tlease=0x697e1268
}
{
\tname=demo
\tip_address=192.168.64.4
\thw_address=1,a:0:27:0:1:f
\tlease=0x597e1268
}
{
\tname=other
\tip_address=192.168.64.7
\thw_address=ff,f1:f5:dd:7f:0:2:0:0:ab:11:56:7f
\tidentifier=ff,f1:f5:dd:7f:0:2:0:0:ab:11:56:7f
\tlease=0x697e1268
}
{
\tip_address=fd00::1
\thw_address=1,a:0:27:0:1:10
}
{
\tsomething new
\tnew_key=1
\tip_address=192.168.64.8
\thw_address=1,a:0:27:0:1:11
\tlease=never
}
{
\tname=half
\tip_address=192.168.64.12
\thw_address=1,a:0:27:0:1:12
{
\tname=whole
\tip_address=192.168.64.13
\thw_address=1,a:0:27:0:1:13
\tlease=0x1
}
{
\tname=cut off
\tip_address=192.1";

    fn mac(text: &str) -> Mac {
        Mac::parse(text).unwrap()
    }

    #[test]
    fn card_addresses_are_the_same_with_and_without_zeros() {
        assert_eq!(mac("0a:00:27:00:01:0f"), mac("a:0:27:0:1:f"));
        assert_eq!(mac("a:0:27:0:1:F").to_string(), "0a:00:27:00:01:0f");
        for wrong in [
            "",
            "a:b:c:d:e",
            "a:b:c:d:e:f:0",
            "100:b:c:d:e:f",
            "a::c:d:e:f",
            "g:b:c:d:e:f",
            "+1:b:c:d:e:f",
        ] {
            assert_eq!(Mac::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_tricky_file_is_read_as_far_as_it_makes_sense() {
        let leases = parse(TRICKY);
        let seen: Vec<String> = leases
            .iter()
            .map(|lease| format!("{} {}", lease.name, lease.address))
            .collect();
        assert_eq!(
            seen,
            [
                "demo 192.168.64.3",
                "demo 192.168.64.9",
                "demo 192.168.64.4",
                " 192.168.64.8",
                "whole 192.168.64.13"
            ]
        );
        assert_eq!((leases[0].until, leases[3].until), (0x597e_1267, 0));
        assert!(parse("").is_empty() && parse("}\n}\nfoo\n=").is_empty());
        assert_eq!(
            parse(&TRICKY.replace('\n', "\r\n")),
            leases,
            "line ends do not matter"
        );
    }

    #[test]
    fn the_newest_lease_wins_wherever_it_stands() {
        let leases = parse(TRICKY);
        let found = of(&leases, mac("a:0:27:0:1:f")).unwrap();
        assert_eq!(found.address, Ipv4Addr::new(192, 168, 64, 9));
        assert_eq!(of(&leases, mac("a:0:27:0:1:99")), None);
    }

    #[test]
    fn an_address_that_went_to_somebody_else_is_no_longer_ours() {
        let lease = |mac_: &str, last, until| Lease {
            name: "demo".into(),
            address: Ipv4Addr::new(192, 168, 64, last),
            mac: mac(mac_),
            until,
        };
        let ours = mac("2:0:0:0:0:1");
        let taken = [lease("2:0:0:0:0:2", 5, 20), lease("2:0:0:0:0:1", 5, 10)];
        assert_eq!(of(&taken, ours), None);
        let won = [lease("2:0:0:0:0:2", 5, 10), lease("2:0:0:0:0:1", 5, 20)];
        assert_eq!(of(&won, ours).map(|lease| lease.until), Some(20));
    }

    #[test]
    fn a_newcomer_is_known_by_its_name_and_by_nobody_having_seen_it() {
        let leases = parse(TRICKY);
        let known = [mac("a:0:27:0:1:f")];
        assert_eq!(newcomer(&leases, "demo", &known), None);
        assert_eq!(
            newcomer(&leases, "demo", &[]).unwrap().address,
            Ipv4Addr::new(192, 168, 64, 9)
        );
        assert_eq!(
            newcomer(&leases, "whole", &known).unwrap().mac,
            mac("a:0:27:0:1:13")
        );
    }
}
