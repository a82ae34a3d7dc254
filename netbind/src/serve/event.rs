//! What a server has to tell.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// Something worth telling the VM's owner, over IPv4 or IPv6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// An address was offered.
    Offered {
        /// The client.
        client: Mac,
        /// The address offered.
        address: IpAddr,
    },
    /// The client holds its address now, for the first time or again.
    Acked {
        /// The client.
        client: Mac,
        /// Its address.
        address: IpAddr,
    },
    /// The client wanted another address and was told that it cannot have it.
    Naked {
        /// The client.
        client: Mac,
        /// The address that it wanted.
        requested: IpAddr,
    },
    /// A client with an address of its own asked for the rest.
    Informed {
        /// The client.
        client: Mac,
        /// The address that it has.
        address: IpAddr,
    },
    /// The client gave its address back.
    Released {
        /// The client.
        client: Mac,
        /// The address.
        address: IpAddr,
    },
    /// The client found that another station uses the pod's address.
    Declined {
        /// The client.
        client: Mac,
        /// The address.
        address: IpAddr,
    },
    /// Something to look into; the server goes on.
    Warning {
        /// One line.
        message: String,
    },
}
