//! nf_tables over netlink: describe tables, chains, rules, sets and maps as typed data, apply them in one atomic
//! transaction, and read back what is there. Needs neither libnftnl nor the `nft` program.
//!
//! A [`Batch`] collects changes without touching the kernel; [`Connection::apply`] commits it, all or nothing.
//! [`netlink`] is the message layer below, [`conntrack`] what else is asked over it.

mod batch;
mod conn;
pub mod conntrack;
mod encode;
mod error;
pub mod expr;
pub mod netlink;
mod rule;
mod set;
mod table;
mod uapi;

pub use batch::Batch;
pub use conn::{ChainInfo, Connection, SetInfo};
pub use error::Error;
pub use expr::{Expr, Reg};
pub use rule::{Ip, Part, Rule, Side, octets};
pub use set::{Data, Element, Field, InlineSet, MapData, Set, Verdict, concat};
pub use table::{Chain, ChainType, Family, Hook, HookSpec, Policy, Table, priority};
