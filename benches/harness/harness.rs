//! What the benches of whole servers share: processes, no-op servers beside them, load, and tables.

pub mod arguments;
pub mod load;
pub mod noop;
pub mod plans;
pub mod plot;
pub mod process;
pub mod table;
