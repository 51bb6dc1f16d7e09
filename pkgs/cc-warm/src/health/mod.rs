//! The gate after: is the app healthy, and does it stay so?
