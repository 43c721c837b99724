//! Shell, inward: functions that return a stream of events.
