//! The fake driver.
