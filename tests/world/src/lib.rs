//! The deployed state machines and the real handlers in a model of AWS that misbehaves, in virtual time.
