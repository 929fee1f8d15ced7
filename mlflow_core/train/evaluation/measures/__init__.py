"""The metrics' arithmetic by task, each in a form that can be measured again under other weights."""
