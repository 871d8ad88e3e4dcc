//! Drivers out of sampan's tree: programs named `sampan-driver-NAME` on the search path, which speak JSON. [`External`] is a driver that asks
//! such a program; [`serve`] makes a program of a driver.
//!
//! | module     | responsible for                                   |
//! |------------|---------------------------------------------------|
//! | `protocol` | the words both sides use                          |
//! | `call`     | one request and its answer, whatever goes wrong   |
//! | `driver`   | the driver that asks; finding programs            |
//! | `serve`    | the other side                                    |

mod call;
mod driver;
pub mod protocol;
mod serve;

pub use driver::{External, find, names};
pub use serve::serve;
