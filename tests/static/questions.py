"""The requests to ask of policies so that every statement in them matters: derived from the statements, not from a list."""

from itertools import product

from principals import as_list


def questions(statements, accounts):
    """Returns rows like those of the decision table: ("", action, resource, condition keys, []), without repetition.

    An action is asked of every resource that a statement names for it. The conditions are those of each statement and of
    each two statements together, met and with one key at a time missed. The caller chooses the session that asks.
    """
    actions = sorted({a for s in statements for a in as_list(s.get("Action", []))})
    found = {}
    for action in actions:
        about = [s for s in statements if names(s, action)]
        resources = {anywhere(r, accounts) for s in about if s["Effect"] == "Allow" for r in as_list(s["Resource"])}
        contexts = unique(anywhere(keys, accounts) for s in about for keys in contexts_of(s))
        granting = unique(anywhere(contexts_of(s)[0], accounts) for s in about if s["Effect"] == "Allow")
        for resource, one, other in product(sorted(resources), granting, contexts):
            keys = {**one, **other}
            found[action, resource, str(sorted(keys.items()))] = ("", action, resource, keys, [])
    return list(found.values())


def names(statement, action):
    if "Action" in statement:
        return action in as_list(statement["Action"])
    return False  # What a NotAction denies is a session's, and sessions are asked one by one.


def contexts_of(statement):
    """Returns the condition keys that meet the statement, first; then those that miss it by one key."""
    conditions = [
        (operator, key, value)
        for operator, keys in statement.get("Condition", {}).items()
        for key, value in keys.items()
        if key != "aws:userid"
    ]
    met = {key: value for operator, key, wanted in conditions for value in met_by(operator, wanted)}
    missed = []
    for operator, key, wanted in conditions:
        without = {k: v for k, v in met.items() if k != key}
        missed += [without | ({key: value} if value is not None else {}) for value in missed_by(operator, wanted)]
    return [met, *missed]


def met_by(operator, wanted):
    """Returns a value that meets the condition; none if the key must be absent, or may be."""
    first = str(as_list(wanted)[0])
    if operator == "Null":
        return ["x"] if first == "false" else []
    if operator in ("StringNotEquals", "StringNotLike"):
        return []
    if operator.startswith("ForAllValues:"):
        return [as_list(wanted)]
    if operator in ("StringEquals", "Bool", "BoolIfExists", "StringEqualsIfExists"):
        return [first.lower() if operator.startswith("Bool") else first]
    assert operator in ("StringLike", "ArnLike"), f"{operator}: this test does not know what meets it"
    return [first.replace("?*", "x").replace("*", "x")]


def missed_by(operator, wanted):
    """Returns values that miss the condition or are close to it; None stands for no value."""
    if operator == "Null":
        return [None] if str(wanted) == "false" else ["x"]
    if operator in ("StringNotEquals", "StringNotLike"):
        return [one.replace("?*", "x") for one in as_list(wanted)]
    if operator.startswith("Bool"):
        return ["false" if str(wanted).lower() == "true" else "true"]
    return [["other"], ["other", *as_list(wanted)]] if operator.startswith("ForAllValues:") else ["other", "", None]


def anywhere(value, accounts):
    """Returns `value` with {account} filled in by each of these accounts."""
    if isinstance(value, dict):
        return {key: anywhere(one, accounts) for key, one in value.items()}
    if isinstance(value, str):
        for account in accounts:
            value = value.replace(account, "{account}")
    return value


def unique(contexts):
    return list({str(sorted(keys.items())): keys for keys in contexts}.values())
