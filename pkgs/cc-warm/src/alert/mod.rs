//! Alerts: on disk before they are sent, kept until delivered.
