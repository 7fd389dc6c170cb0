//! Nomoat runtime.
