//! Thin Kubernetes calls.
