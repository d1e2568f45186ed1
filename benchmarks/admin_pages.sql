-- What benchmarks.admin_pages measures: {{…}} of its own are filled in, statements end at a line's end.
SELECT setseed(0.17217);
INSERT INTO devices_attributedefinition (name, type, required, choices, help, is_filter) VALUES
       ('floor', 'number', false, '', '', true), ('site', 'choice', false, E'north\nsouth', '', true),
       ('installed', 'date', false, '', '', true), ('leased', 'yes-no', false, '', '', true),
       ('asset', 'text', false, '', '', true);
INSERT INTO devices_device
       (identifier, kind, name, description, enabled, attributes, created, updated, last_seen)
SELECT md5(n::text)::uuid::text, CASE WHEN n % 1000 = 7 THEN 'backend' ELSE 'device' END,
       'Thermostat ' || n, CASE WHEN n % 3 = 0 THEN 'In room ' || n % 977 ELSE '' END, n % 50 > 0,
       jsonb_build_object('floor', n % 40, 'site', CASE WHEN n % 2 = 0 THEN 'north' ELSE 'south' END,
                          'installed', (date '2020-01-01' + n % 2000)::text, 'leased', n % 7 = 0,
                          'asset', 'A-' || n),
       now() - random() * interval '900 days', now(),
       CASE WHEN n % 5 > 0 THEN now() - random() ^ 3 * interval '90 days' END
  FROM generate_series(1, {devices}) n;
INSERT INTO devices_presharedkey
       (device_id, label, scheme, digest, pepper, hint, created, last_used, revoked_at, revoked_by,
        revoked_reason, not_after)
SELECT id, CASE WHEN id % 3 = 0 THEN 'factory' ELSE '' END, 'hmac-sha256', md5(id::text), 'test-2',
       left(md5(id::text), 4), created, last_seen, CASE WHEN id % 100 = 1 THEN now() END, '', '',
       CASE WHEN id % 50 = 2 THEN now() - random() * interval '90 days'
            WHEN id % 20 = 3 THEN now() + random() * interval '30 days'
            WHEN id % 4 = 0 THEN now() + interval '31 days' + random() * interval '900 days' END
  FROM devices_device WHERE id % 10 > 0;
INSERT INTO devices_certificate
       (device_id, label, pin, pem, fingerprint, content_fingerprint, public_key_fingerprint, subject,
        issuer, serial, not_before, not_after, created, last_used, revoked_at, revoked_by,
        revoked_reason)
SELECT id, 'factory', CASE WHEN id % 3 = 0 THEN 'public-key' ELSE 'certificate' END, '',
       md5(id || 'a') || md5(id || 'b'), md5(id || 'c') || md5(id || 'd'),
       md5(id || 'e') || md5(id || 'f'), 'CN=' || identifier, 'CN=Factory',
       md5(id::text), now() - interval '1 year', now() + (random() - 0.05) * interval '900 days',
       created, last_seen, CASE WHEN id % 70 = 0 THEN now() END, '', ''
  FROM devices_device WHERE id % 10 < 1;
INSERT INTO devices_devicegroup (name, description, parent_id)
SELECT 'site ' || n, '', CASE WHEN n > 10 THEN n / 10 END FROM generate_series(1, {groups}) n;
INSERT INTO devices_device_groups (device_id, devicegroup_id)
SELECT id, 1 + id % {groups} FROM devices_device
 UNION SELECT id, 1 + (id / {groups}) % {groups} FROM devices_device
 UNION SELECT id, 1 FROM devices_device WHERE id % 2 = 0;
INSERT INTO acl_commandset (name, description) SELECT 'set ' || n, '' FROM generate_series(1, 100) n;
INSERT INTO acl_commandsetpattern (command_set_id, pattern)
SELECT s, '/v1/Set' || s || '.Do' || n FROM generate_series(1, 100) s, generate_series(1, 20) n;
INSERT INTO acl_commandpermission
       (effect, source_kind, source_device_id, destination_kind, destination_device_id, pattern,
        enabled, note, created, updated)
SELECT 'allow', 'device', a.id, 'device', a.id + 1, '/v1/Valve' || a.id % 100 || '.Open', true,
       CASE WHEN a.id % 20 = 0 THEN 'asked for by line ' || a.id % 7 ELSE '' END, now(), now()
  FROM devices_device a WHERE a.id <= {rules} AND a.id < {devices};
INSERT INTO acl_commandpermission
       (effect, source_kind, source_group_id, destination_kind, pattern, enabled, note, created,
        updated, valid_until)
SELECT CASE WHEN g % 9 = 0 THEN 'deny' ELSE 'allow' END, 'group', g, 'same-group',
       '/v1/Config.*', g % 11 > 0, '', now(), now(),
       CASE WHEN g % 8 = 0 THEN now() + interval '9 days' END
  FROM generate_series(1, {groups}) g;
INSERT INTO rpc_callrecord
       (digest, bucket, endpoint, question, caller, subject, destination, command, outcome, reason,
        others, count, first, last)
SELECT md5('call' || n)::uuid, hour, 'verifier', 'credential', '10.0.0.' || n % 4,
       md5((1 + n % {devices})::text)::uuid::text, '', '',
       CASE WHEN n % 9 > 0 THEN 'allowed' ELSE 'refused' END,
       CASE WHEN n % 9 > 0 THEN 'verified' WHEN n % 27 = 0 THEN 'unknown-device'
            ELSE 'wrong-secret' END, false, 1 + n % 40, hour, hour + interval '59 minutes'
  FROM (SELECT n, date_trunc('hour', now()) - n % 720 * interval '1 hour' AS hour
          FROM generate_series(1, {calls}) n) calls;
INSERT INTO rpc_callrecord
       (digest, bucket, endpoint, question, caller, subject, destination, command, outcome, reason,
        others, count, first, last)
SELECT md5('command' || n)::uuid, hour, 'frames', 'command', '10.0.1.' || n % 4,
       md5((1 + n % {devices})::text)::uuid::text, md5((2 + n % {devices})::text)::uuid::text,
       '/v1/Valve' || n % 100 || '.Open', CASE WHEN n % 5 > 0 THEN 'allowed' ELSE 'refused' END,
       CASE WHEN n % 5 > 0 THEN 'rule' ELSE 'no-rule' END, false, 1 + n % 40, hour,
       hour + interval '59 minutes'
  FROM (SELECT n, date_trunc('hour', now()) - n % 720 * interval '1 hour' AS hour
          FROM generate_series(1, {calls} / 10) n) calls;
INSERT INTO devices_historicaldevice
       (id, origin, batch, identifier, kind, name, description, enabled, attributes,
        history_change_reason, history_user_id, history_date, history_type)
SELECT id, 'import', md5('batch' || id / 5000)::uuid, identifier, kind, '', '', true, '{{}}', '',
       'import', now() - (900 - id / 5000) * interval '1 day' + id * interval '1 ms', '+'
  FROM devices_device ORDER BY id;
INSERT INTO devices_historicaldevice
       (id, origin, batch, identifier, kind, name, description, enabled, attributes,
        history_change_reason, history_user_id, history_date, history_type)
SELECT id, 'admin', CASE WHEN id % 20 = 0 THEN md5('named' || id / 2000)::uuid END, identifier, kind,
       name, description, enabled, attributes, '', 'bench',
       now() - ({devices} - id) * interval '2 seconds', '~'
  FROM devices_device WHERE id % 5 = 1 OR id % 20 = 0 ORDER BY id;
INSERT INTO devices_historicalpresharedkey
       (id, origin, batch, revoked_by, revoked_reason, label, scheme, history_change_reason,
        history_user_id, device_id, history_date, history_type)
SELECT id, 'import', md5('batch' || device_id / 5000)::uuid, '', '', label, scheme, '', 'import',
       device_id, now() - (900 - device_id / 5000) * interval '1 day' + device_id * interval '1 ms',
       '+' FROM devices_presharedkey ORDER BY id;
INSERT INTO devices_historicalmembership
       (device_id, devicegroup_id, origin, batch, history_change_reason, history_user_id,
        history_date, history_type)
SELECT device_id, devicegroup_id, 'import', md5('batch' || device_id / 5000)::uuid, '', 'import',
       now() - (900 - device_id / 5000) * interval '1 day' + device_id * interval '1 ms', '+'
  FROM devices_device_groups ORDER BY device_id;
INSERT INTO devices_event (uid, position, kind, moment, groups, data)
SELECT md5('event' || n)::uuid, n, CASE WHEN n % 3 = 0 THEN 'device.changed' ELSE 'device.created' END,
       now() - ({events} - n) * interval '1 second', '[1]',
       jsonb_build_object('identifier', md5((1 + n % {devices})::text)::uuid::text, 'by', 'bench')
  FROM generate_series(1, {events}) n;
INSERT INTO devices_webhook
       (name, url, kinds, state, off_because, pepper, sealed, former_sealed, position, created)
SELECT 'hook ' || n, 'https://hooks.example.com/' || n, '[]', 'active', '', 'test-2', '', '', {events},
       now() FROM generate_series(1, 3) n;
INSERT INTO devices_delivery
       (webhook_id, event_id, state, attempts, due_at, give_up_at, tried_at, code, problem, answer,
        duration)
SELECT 1 + e.id % 3, e.id, CASE WHEN e.id % 50 = 0 THEN 'failed' ELSE 'delivered' END, 1, moment,
       moment + interval '3 days', moment, CASE WHEN e.id % 50 = 0 THEN 500 ELSE 204 END, '', '', 80
  FROM devices_event e WHERE e.id % 4 = 0;
INSERT INTO rpc_rtioserver (name, host, port, tls, certificate, enabled)
SELECT 'rtio ' || n, '10.1.0.' || n, 17217, 'unprotected', '', true FROM generate_series(1, 3) n;
INSERT INTO rpc_sessionending
       (identifier, device_id, server_id, cause, requested_at, requested_by, origin, admitted_here,
        state, detail, attempts, intercepted, due_at)
SELECT identifier, id, 1 + id % 3, 'disabled', now() - id * interval '1 minute', 'bench', 'admin',
       true, CASE WHEN id % 30 = 0 THEN 'given-up' ELSE 'ended' END, '', 1, 0, now()
  FROM devices_device WHERE id % 20 = 0;
INSERT INTO auth_user
       (password, is_superuser, username, first_name, last_name, email, is_staff, is_active,
        date_joined)
SELECT '!', false, 'person ' || n, '', '', '', true, true, now() FROM generate_series(1, 2000) n;
INSERT INTO authsite_apitoken
       (owner_id, name, identifier, digest, pepper, scopes, networks, rules, not_after, created,
        revoked_by, revoked_reason)
SELECT id, 'token ' || n, md5(id || '.' || n)::varchar(16), md5('t' || id || '.' || n), 'test-2',
       '["devices.view_device"]', '[]', '[]', now() + n * interval '20 days', now(), '', ''
  FROM auth_user, generate_series(1, 10) n;
INSERT INTO axes_accesslog
       (user_agent, ip_address, username, http_accept, path_info, attempt_time, session_hash)
SELECT 'browser', '10.2.0.1', 'person ' || n % 2000, '', '/admin/login/',
       now() - n * interval '1 minute', '' FROM generate_series(1, {devices} / 5) n;
INSERT INTO axes_accessattempt
       (user_agent, ip_address, username, http_accept, path_info, attempt_time, get_data, post_data,
        failures_since_start)
SELECT 'browser ' || n, '10.2.0.1', 'person ' || n % 2000, '', '/admin/login/',
       now() - n * interval '1 minute', '', '', 1 FROM generate_series(1, {devices} / 100) n;
