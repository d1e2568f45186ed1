"""What the engine asks the database: the context of requests, and the rules about them.

`acl.engine.decisions` says what the rows mean. The keys of rules are those of
`acl.models.command_permission`.
"""

from acl.models.command_permission import EVERYONE, ITSELF, SAME_GROUP
from devices.database.statements import Statement

MAX_RULES_AT_ONCE = 500  # that come with the context in one statement

# Of rules, at a moment that is given twice.
IN_FORCE = """enabled AND (valid_from IS NULL OR valid_from <= %s)
        AND (valid_until IS NULL OR valid_until > %s)"""

# The devices, each beside every group that it is in; the groups above those; the sets. Devices are
# looked up one by one: held against a list, PostgreSQL puts them into a bitmap first. Few groups
# have one above: the walk up begins with those alone, looks up one parent at a time where a join
# would read all groups, and ends with a NULL above the top. `UNION` drops what was found before, so
# that it ends even in a tree with a cycle.
DEVICES_AND_GROUPS = """
    WITH RECURSIVE direct AS MATERIALIZED (
        SELECT d.identifier, d.id, d.enabled, g.id AS grp, g.parent_id AS parent
          FROM {each} AS value
               CROSS JOIN devices_device d
               LEFT JOIN devices_device_groups m ON m.device_id = d.id
               LEFT JOIN devices_devicegroup g ON g.id = m.devicegroup_id
         WHERE d.identifier = value
    ), above (device, grp) AS (
        SELECT id, parent FROM direct WHERE parent IS NOT NULL
        UNION
        SELECT device, (SELECT parent_id FROM devices_devicegroup WHERE id = grp)
          FROM above WHERE grp IS NOT NULL
    )"""
CONTEXT = Statement(
    f"""{DEVICES_AND_GROUPS}
    SELECT identifier, id, enabled, grp
      FROM direct
    UNION ALL
    SELECT NULL, device, NULL, grp
      FROM above
    UNION ALL
    SELECT pattern, command_set_id, NULL, NULL
      FROM {{each}} AS value CROSS JOIN acl_commandsetpattern
     WHERE pattern = value
    UNION ALL
    SELECT {{state}}, NULL, NULL, NULL
    """  # noqa: S608 - constants
)

# The same with, beside it, every rule in force between any of the devices, or what they are in, for
# any of the commands: which of them match a request, its keys tell (`Keys.matching`). That spares a
# round trip, which costs as much as the rules of few requests.
CONTEXT_AND_RULES = Statement(
    {
        "postgresql": f"""{DEVICES_AND_GROUPS}, keys AS MATERIALIZED (
        SELECT ARRAY(SELECT id FROM direct
                     UNION ALL SELECT -grp FROM direct
                     UNION ALL SELECT -grp FROM above)
               || ARRAY[{EVERYONE}, {ITSELF}, {SAME_GROUP}]::bigint[] AS ends
    ), sets AS MATERIALIZED (
        SELECT pattern, command_set_id
          FROM acl_commandsetpattern
         WHERE pattern {{among}}
    )
    SELECT identifier, id, enabled, grp, NULL::bigint, NULL::text
      FROM direct
    UNION ALL
    SELECT NULL, device, NULL, grp, NULL, NULL
      FROM above
    UNION ALL
    SELECT pattern, command_set_id, NULL, NULL, NULL, NULL
      FROM sets
    UNION ALL
    SELECT {{state}}, NULL, NULL, NULL, NULL, NULL
    UNION ALL
    (SELECT effect, id, NULL, source_key, destination_key, command_key
       FROM acl_commandpermission
      WHERE source_key = ANY((SELECT ends FROM keys)::bigint[])
        AND destination_key = ANY((SELECT ends FROM keys)::bigint[])
        AND command_key = ANY(%s::text[] || ARRAY(SELECT '*' || command_set_id FROM sets))
        AND {IN_FORCE}
      LIMIT {MAX_RULES_AT_ONCE})
    """  # noqa: S608 - constants
    }
)

# Both spell out one equality in the index for each source, destination and command of a request.
# Planners with statistics know tricks that would read the whole table: given three lists, SQLite
# looks up the sources alone, and it fills a Bloom filter where conditions stand beside the
# look-up; PostgreSQL joins by hashing. LIMIT -1 and OFFSET 0 are the fences that they respect.
# What no rule is about at all is dropped before its combinations are looked up, patterns first: of
# those that could match a command few are in any rule.
RULES = Statement(
    {
        "sqlite": f"""
    SELECT nth, id, effect, source_key, destination_key, command_key
      FROM (
        SELECT r.key AS nth, p.*
          FROM json_each(%s) r
               CROSS JOIN json_each(r.value, '$.commands') c
               CROSS JOIN json_each(r.value, '$.destinations') d
               CROSS JOIN json_each(r.value, '$.sources') s
               CROSS JOIN acl_commandpermission p INDEXED BY acl_permission_by_command_full
         WHERE EXISTS (SELECT 1
                         FROM acl_commandpermission INDEXED BY acl_permission_by_command_full
                        WHERE command_key = c.value)
           AND EXISTS (SELECT 1
                         FROM acl_commandpermission INDEXED BY acl_permission_by_command_full
                        WHERE command_key = c.value AND destination_key = d.value)
           AND command_key = c.value AND destination_key = d.value AND source_key = s.value
         LIMIT -1
      )
     WHERE {IN_FORCE}
    """,  # noqa: S608 - constants
        "postgresql": f"""
    SELECT r.nth - 1, p.*
      FROM ROWS FROM (
               json_to_recordset(%s) AS (sources bigint[], destinations bigint[], commands text[])
           ) WITH ORDINALITY AS r (sources, destinations, commands, nth),
   LATERAL (
        SELECT id, effect, source_key, destination_key, command_key
          FROM acl_commandpermission
         WHERE source_key = ANY(r.sources) AND destination_key = ANY(r.destinations)
           AND command_key = ANY(r.commands)
           AND {IN_FORCE}
        OFFSET 0
   ) p
    """,  # noqa: S608 - constants
    }
)
# The same with, where the state is another one than that of the context, a row without a rule that
# tells it.
RULES_OF_STATE = Statement(
    {
        "postgresql": RULES.sql["postgresql"]
        + "UNION ALL SELECT NULL, NULL, {state}, NULL, NULL, NULL WHERE {state} <> %s"
    }
)

# The same for SQLite and many combinations: each rule between two ends is read once, and held
# against the commands of them all. (PostgreSQL skips from match to match in one scan of the index.)
RULES_BETWEEN = Statement(
    {
        "sqlite": f"""
    SELECT id, effect, source_key, destination_key, command_key
      FROM (
        SELECT p.*
          FROM (SELECT DISTINCT s.value AS source, d.value AS destination
                  FROM json_each(%s) r
                       CROSS JOIN json_each(r.value, '$[0]') s
                       CROSS JOIN json_each(r.value, '$[1]') d
                 WHERE EXISTS (SELECT 1 FROM acl_commandpermission INDEXED BY acl_permission_lookup
                                WHERE source_key = s.value)
                   AND EXISTS (SELECT 1 FROM acl_commandpermission INDEXED BY acl_permission_lookup
                                WHERE source_key = s.value AND destination_key = d.value)
                 LIMIT -1) AS ends
               CROSS JOIN acl_commandpermission p INDEXED BY acl_permission_lookup
         WHERE source_key = ends.source AND destination_key = ends.destination
         LIMIT -1
      )
     WHERE {IN_FORCE}
       AND command_key {{among}}
    """  # noqa: S608 - constants
    }
)
