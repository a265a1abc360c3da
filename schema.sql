-- The database of the dispatcher. Applied by `dispatcher migrate`, inside one transaction, under a lock.
--
-- How this works
--   outbox          upstream's interface: one INSERT, validated here, inside the producer's transaction
--   message         the exact bytes of one event, built once, the same in every attempt
--   delivery        one event for one webhook: what is to be sent
--   delivery_event  the facts: every attempt and everything else that happened to a delivery
--   claim           which run took a waiting delivery into memory, so that a crash can be told from a wait
--   tail_position   how far each lane has been read; tail_checkpoint: up to where everything was attempted
-- All of these are append-only, by trigger, whoever asks, and partitioned by the month of `day`, the day
-- on which the event was recorded; retention drops whole months. A delivery's state is its last fact's.
-- The other tables are small and ordinary: who subscribes, who may ask, who leads.

set local client_min_messages = warning;

-- PostgreSQL 14 lets everyone create in `public`, where the functions below that run as their owner look for names.
-- Where others have tables there already, theirs may depend on it: `dispatcher doctor` warns.
do $$
begin
    if not exists (select from pg_class where relnamespace = 'public'::regnamespace) then
        revoke create on schema public from public;
    end if;
exception
    when insufficient_privilege then
        null;  -- another login owns the schema: the doctor's warning again
end $$;

-- ---------------------------------------------------------------------------------------------------
-- The installation, and the version of what is cached from it
-- ---------------------------------------------------------------------------------------------------

create table installation (
    singleton      boolean primary key default true check (singleton),
    schema_version integer not null,
    -- The oldest version whose dispatcher still works with this schema (docs/how-to/upgrade.md).
    compatible_from integer not null,
    -- Delivery ids are row keys encrypted under this key (core/ids.py): it never changes.
    id_key         bytea not null default uuid_send(gen_random_uuid()),
    -- Proves that the configured encryption key is the one that the secrets were written with.
    key_check      bytea,
    -- Into how many shards the webhooks are divided: webhook `id` is in shard `id % shards`.
    shards         smallint not null default 1 check (shards between 1 and 64),
    created_at     timestamptz not null default now()
);

-- One row, incremented by every change of event types, organizations, networks and webhooks. Its row
-- lock makes those changes commit in the order of their numbers, so "greater than what I have" is exact.
create table registry_version (
    singleton boolean primary key default true check (singleton),
    version   bigint not null
);
insert into registry_version (version) values (1);

-- Whoever sends hears of a change when it commits, rather than at its next poll.
create function registry_rings() returns trigger
    language plpgsql set search_path = pg_catalog, public as $$
begin
    perform pg_notify('dispatcher_outbox', 'registry');
    return null;
end $$;

create trigger registry_rings after update on registry_version
    for each statement execute function registry_rings();

create function registry_changed() returns trigger
    language plpgsql set search_path = pg_catalog, public as $$
begin
    update registry_version set version = version + 1;
    return null;
end $$;

-- ---------------------------------------------------------------------------------------------------
-- Organizations, networks, API keys
-- ---------------------------------------------------------------------------------------------------

create table organization (
    id         bigint generated always as identity primary key,
    public_id  text not null unique check (public_id like 'org\_%'),
    name       text not null unique check (name <> ''),
    created_at timestamptz not null default now()
);

-- Which organization hears of which network's events; '*' stands for every network, and for events
-- that name none.
create table organization_network (
    organization_id bigint not null references organization (id),
    network_id      text not null check (network_id <> ''),
    primary key (organization_id, network_id)
);

create table api_key (
    id              bigint generated always as identity primary key,
    public_id       text not null unique check (public_id like 'key\_%'),
    organization_id bigint not null references organization (id),
    name            text not null default '',
    hash            bytea not null unique,  -- SHA-256; the key itself is shown once and never stored
    hint            text not null,          -- its last characters, to recognise it by
    scopes          text[] not null check (scopes <@ array['read:webhooks', 'write:webhooks', 'admin']),
    created_at      timestamptz not null default now(),
    expires_at      timestamptz,
    revoked_at      timestamptz,
    last_used_at    timestamptz
);

-- Who is logged in to the dashboard. An ordinary table: what has expired is deleted.
create table dashboard_session (
    hash       bytea primary key,   -- SHA-256 of the token in the cookie
    api_key_id bigint not null references api_key (id),
    created_at timestamptz not null default now(),
    used_at    timestamptz not null default now()
);
create index dashboard_session_by_use on dashboard_session (used_at);

-- ---------------------------------------------------------------------------------------------------
-- Event types
-- ---------------------------------------------------------------------------------------------------

-- `fields` names what `data` must hold: {"latitude": "latitude", "magnitude": "number|null", …}.
-- Kinds: string, number, integer, boolean, object, array, timestamp, latitude, longitude.
-- "|null": may be null. "?": may be absent or null. Fields that are not named pass through untouched.
create table event_type (
    name        text primary key
                check (name ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$' and length(name) <= 100),
    description text not null check (description <> ''),
    lane        smallint not null default 1 check (lane between 0 and 2),  -- 0 alert, 1 event, 2 routine
    fields      json not null default '{}',
    sample      json not null,  -- made of the fields where none is given
    built_in    boolean not null default false,
    -- The rule that `fields` amounts to, compiled once: one operator decides about a row (measured: a
    -- loop over the fields costs a producer a tenth of its rate). The outbox's trigger holds a copy.
    rule        jsonpath not null,
    created_at  timestamptz not null default now(),
    -- These speak of webhooks, to the organization of the webhook that they name: others' would reach nobody.
    constraint event_type_reserved check (built_in or name not like 'webhook.%')
);

-- One field's part of a rule: jsonpath in strict mode, where no array passes for what it holds, so that one
-- comparison tells the type as well. What is there and right comes first: the rest is then not looked at.
create function event_field_rule(field text, kind text) returns text
    language plpgsql immutable strict set search_path = pg_catalog, public
    set standard_conforming_strings = on as $$
declare
    base text := regexp_replace(kind, '(\||\?).*$', '');
    path text := '$.' || to_json(field)::text;
    test text;
begin
    test := case base
        -- Empty only where it may be absent: no alert is held back for a description that is empty.
        when 'string' then format(case when kind like '%?' then '%s.type() == "string"' else '%s > ""' end, path)
        when 'number' then format('%s.type() == "number"', path)
        when 'integer' then format('(%s.type() == "number" && %s.floor() == %s)', path, path, path)
        when 'boolean' then format('%s.type() == "boolean"', path)
        when 'object' then format('%s.type() == "object"', path)
        when 'array' then format('%s.type() == "array"', path)
        when 'latitude' then format('(%s >= -90 && %s <= 90)', path, path)
        when 'longitude' then format('(%s >= -180 && %s <= 180)', path, path)
        -- RFC 3339, section 5.6, with the length of each month and leap years; before that, the days that every
        -- month has, which costs half as much.
        when 'timestamp' then format('(%s like_regex "%s" || %s like_regex "%s")', path, replace(
            '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?Z$',
            '\', '\\'), path, replace(
            '^([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))'
            '|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)'
            '[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$',
            '\', '\\'))
    end;
    if test is null or kind !~ '^[a-z]+(\|null|\?)?$' then
        raise exception 'fields.%: expected string, number, integer, boolean, object, array, timestamp, latitude or longitude, perhaps followed by |null or ?, got "%"', field, kind
            using errcode = 'check_violation', table = 'event_type', column = 'fields';
    end if;
    return case  -- strict: no comparison with what is absent has an answer
        when kind like '%?' then format('(%s || %s.type() == "null" || (%s == null) is unknown)', test, path, path)
        when kind like '%|null' then format('(%s || %s.type() == "null")', test, path)
        else test
    end;
end $$;

-- Says what is wrong with `data` in words; null when nothing is.
create function event_data_problem(type_name text, type_fields json, data jsonb) returns text
    language plpgsql immutable set search_path = pg_catalog, public
    set standard_conforming_strings = on as $$
declare
    field text;
    kind  text;
    base  text;
    got   text;
begin
    if jsonb_typeof(data) <> 'object' then
        return format('data: expected a JSON object, got %s', jsonb_typeof(data));
    end if;
    for field, kind in select key, value from json_each_text(type_fields) loop
        continue when data @@ ('strict ' || event_field_rule(field, kind))::jsonpath;
        base := regexp_replace(kind, '(\||\?).*$', '');
        if not data ? field then
            return format('data.%s: missing; %s needs it', field, type_name);
        end if;
        got := left((data -> field)::text, 60);
        return format('data.%s: expected %s%s, got %s', field, case base
            when 'string' then 'a string' || case when kind like '%?' then '' else ' that is not empty' end
            when 'integer' then 'a whole number'
            when 'object' then 'an object'
            when 'array' then 'an array'
            when 'latitude' then 'a number from -90 to 90'
            when 'longitude' then 'a number from -180 to 180'
            when 'timestamp' then 'an RFC 3339 timestamp such as "2024-01-15T14:32:50Z"'
            else 'a ' || base end,
            case when kind ~ '(\|null|\?)$' then ' or null' else '' end, got);
    end loop;
    return null;
end $$;

-- An example of `data` that fits the fields.
create function event_sample(type_fields json) returns json
    language sql immutable set search_path = pg_catalog, public
    set standard_conforming_strings = on as $$
    select coalesce(json_object_agg(key, case regexp_replace(value, '(\||\?).*$', '')
               when 'string' then to_json(key)
               when 'number' then '1.5'
               when 'integer' then '1'
               when 'boolean' then 'true'
               when 'object' then '{}'
               when 'array' then '[]'
               when 'timestamp' then '"2024-01-15T14:32:50Z"'
               when 'latitude' then '37.7749'
               when 'longitude' then '-122.4194' end::json), '{}')
      from json_each_text(type_fields)
$$;

create function event_type_compile() returns trigger
    language plpgsql set search_path = pg_catalog, public as $$
declare
    rules   text;
    problem text;
begin
    if json_typeof(new.fields) <> 'object' then
        raise exception 'fields: expected an object of field names and kinds'
            using errcode = 'check_violation', table = 'event_type', column = 'fields';
    end if;
    select string_agg(event_field_rule(key, coalesce(value, 'null')), ' && ') into rules
      from json_each_text(new.fields);
    new.rule := concat_ws(' && ', 'strict $.type() == "object"', rules)::jsonpath;
    new.sample := coalesce(new.sample, event_sample(new.fields));
    -- It is sent on request, so the outbox has to take it.
    problem := case
        when octet_length(new.sample::text) > 262144 then 'data: expected at most 262144 bytes (256 KiB)'
        else coalesce(outbox_hidden_problem(new.sample::text),
                      event_data_problem(new.name, new.fields, new.sample::jsonb)) end;
    if problem is not null then
        raise exception 'sample: does not fit the fields: %', problem
            using errcode = 'check_violation', table = 'event_type', column = 'sample';
    end if;
    return new;
end $$;

create trigger compile before insert or update on event_type
    for each row execute function event_type_compile();

-- ---------------------------------------------------------------------------------------------------
-- Webhooks
-- ---------------------------------------------------------------------------------------------------

create table webhook (
    id                 bigint generated always as identity primary key,
    public_id          text not null unique check (public_id like 'whk\_%'),
    organization_id    bigint not null references organization (id),
    url                text not null,
    events             text[] not null check (cardinality(events) > 0),
    network_ids        text[],
    description        text not null default '',
    filter             json check (json_typeof(filter) = 'object'),
    payload            text not null default 'standard' check (payload in ('standard', 'full')),
    coalesce           boolean not null default false,  -- revisions that wait give way to newer ones
    max_age_s          integer check (max_age_s > 0),   -- older events are not sent any more
    settle_s           integer check (settle_s > 0),    -- sensor.offline is told if it lasts so long
    rate_limit_per_s   double precision check (rate_limit_per_s > 0),  -- requests started in a second
    ordering           text not null default 'subject' check (ordering in ('subject', 'strict', 'none')),
    headers            bytea,           -- encrypted, like the secrets: tokens may be among them
    ca_certificates    text,            -- PEM: trusted instead of the system's authorities
    active             boolean not null default true,
    disabled_reason    text,
    secret             bytea not null,  -- encrypted (store/vault.py)
    next_secret        bytea,           -- while a secret is rotating
    next_secret_at     timestamptz,     -- when next_secret takes over
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    judged_from        timestamptz not null default now(),  -- made, activated or given its URL: older failures are over
    deleted_at         timestamptz,     -- the row stays: the history refers to it
    version            bigint not null default 0
);
create index webhook_by_organization on webhook (organization_id, id) where deleted_at is null;
create index webhook_by_version on webhook (version);

create function webhook_versioned() returns trigger
    language plpgsql set search_path = pg_catalog, public as $$
begin
    update registry_version set version = version + 1 returning version into new.version;
    return new;
end $$;

create trigger versioned before insert or update on webhook
    for each row execute function webhook_versioned();
create trigger registry_changed after insert or update or delete on organization_network
    for each statement execute function registry_changed();

-- Who changed what: one row for each change of a webhook, a key or an organization; never a secret.
create table audit (
    id         bigint generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    actor      text not null,   -- an API key's id, or the name of a database role
    action     text not null,   -- webhook.created, webhook.disabled, key.revoked, …
    subject    text not null,   -- the public id of what was changed
    details    json not null default '{}'
);

-- ---------------------------------------------------------------------------------------------------
-- Append-only tables
-- ---------------------------------------------------------------------------------------------------

create function append_only() returns trigger
    language plpgsql set search_path = pg_catalog, public as $$
begin
    raise exception '% on % is refused: the table is append-only; retention drops whole partitions',
        tg_op, tg_table_name using errcode = 'insufficient_privilege', table = tg_table_name;
end $$;

create table outbox (
    id                bigint generated always as identity,
    day               date not null default (clock_timestamp() at time zone 'UTC')::date,
    xid               xid8 not null default pg_current_xact_id(),  -- what the tail reads by
    lane              smallint not null default 2,
    type              text not null,
    data              json not null,  -- json, not jsonb: the producer's key order is kept
    occurred_at       timestamptz not null default now(),
    recorded_at       timestamptz not null default clock_timestamp(),
    network_id        text,
    dedup_key         text,
    traceparent       text,     -- of the producer's span (W3C Trace Context): the event's trace goes on from there
    event_id          text,     -- of data, for rows about an earthquake
    target_webhook_id bigint,   -- set on a test: for this webhook alone
    test              boolean not null default false,
    primary key (day, id)
) partition by range (day);
create index outbox_tail on outbox (lane, xid, id);
create index outbox_by_event on outbox (event_id, id) where event_id is not null;

-- Named by `day` and the outbox id of the event, like everything that follows from it.
create table message (
    day         date not null,
    outbox_id   bigint not null,
    lane        smallint not null,
    batch       bigint not null,   -- of the tail position that was written with it
    type        text not null,
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    fan_out     integer not null,  -- how many deliveries
    body        bytea not null,
    full_body   bytea,     -- with the event's parameters, for the webhooks in full_for
    full_for    bigint[],
    created_at  timestamptz not null default clock_timestamp(),
    primary key (day, outbox_id)
) partition by range (day);
create index message_by_batch on message (lane, batch, outbox_id);

create table delivery (
    day         date not null,
    outbox_id   bigint not null,
    webhook_id  bigint not null,
    lane        smallint not null,
    run_id      bigint,  -- the run that took it straight into memory; null: it waits here
    recovery_id bigint,  -- the recovery that added it afterwards; null: it was written with its message
    body        bytea,   -- of its own, where a recovery made one in full; null: its message's
    primary key (day, outbox_id, webhook_id)
) partition by range (day);
create index delivery_by_webhook on delivery (webhook_id, outbox_id);

-- One fact. Its place among a delivery's facts is (attempt_no, step): 0 an attempt was requested by
-- hand, 1 the delivery was closed without that attempt, 2 the attempt. `state` is the delivery's state
-- from this fact on. The key makes a repeated batch harmless and a second record of one attempt
-- impossible.
create table delivery_event (
    day                date not null,
    outbox_id          bigint not null,
    webhook_id         bigint not null,
    attempt_no         integer not null check (attempt_no > 0),
    step               smallint not null check (step between 0 and 2),
    kind               text not null check (kind in (
                           'requested', 'postponed', 'cancelled', 'superseded', 'expired', 'withheld', 'attempted',
                           'interrupted')),
    state              text not null check (state in ('pending', 'delivered', 'failed', 'cancelled')),
    trigger            text check (trigger in ('first', 'retry', 'manual', 'recover', 'test')),
    failures           smallint not null default 0,  -- attempts of the schedule used up so far
    recorded_at        timestamptz not null default clock_timestamp(),
    run_id             bigint,
    started_at         timestamptz,
    duration_ms        real,
    status_code        integer,
    error_class        text,
    error_message      text,
    next_attempt_at    timestamptz,  -- the schedule: due from then on, unless a later fact exists
    reason             text,
    actor              text,   -- who asked for the attempt: an API key's id
    address            text,
    request_headers    text,   -- JSON array of [name, value], never a secret
    response_headers   text,   -- the same
    response_body      bytea,  -- as received, at most keep_response_bytes
    response_truncated boolean,
    timings            text,   -- JSON object: milliseconds by phase
    primary key (day, outbox_id, webhook_id, attempt_no, step)
) partition by range (day);
create index delivery_event_due on delivery_event (next_attempt_at, outbox_id, webhook_id)
    where next_attempt_at is not null;
create index delivery_event_due_by_webhook on delivery_event (webhook_id, next_attempt_at, outbox_id)
    where next_attempt_at is not null;
-- What a webhook answered lately, by 2 success, 1 failed test, 0 failure: its health costs four probes,
-- however long it has been failing.
create index delivery_event_by_webhook on delivery_event (webhook_id,
    (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end), recorded_at)
    where kind = 'attempted';
-- Deliveries that failed or were cancelled are found among millions that were not.
create index delivery_event_closed on delivery_event (webhook_id, outbox_id)
    where state in ('failed', 'cancelled');

-- Facts are appended in the order of their times, so a range of them is a range of pages.
create index delivery_event_recorded on delivery_event using brin (recorded_at)
    with (pages_per_range = 32, autosummarize = on);

create table claim (
    day        date not null,
    outbox_id  bigint not null,
    webhook_id bigint not null,
    attempt_no integer not null,
    run_id     bigint not null,
    claimed_at timestamptz not null default clock_timestamp(),
    primary key (day, outbox_id, webhook_id, attempt_no, run_id)
) partition by range (day);
create index claim_by_run on claim (run_id, claimed_at);

-- done, target: pg_snapshot. Everything visible in `done` has been fanned out; of what is visible in
-- `target` and was not in `done`, everything up to (xid, id) in that order.
create table tail_position (
    day        date not null default (clock_timestamp() at time zone 'UTC')::date,
    lane       smallint not null,
    batch      bigint not null,
    run_id     bigint not null,
    done       pg_snapshot not null,
    target     pg_snapshot not null,
    xid        xid8 not null,
    outbox_id  bigint not null,
    system_id  bigint not null,  -- of the server: another one's transaction ids mean nothing here
    rest       bigint[],         -- webhooks that the event `outbox_id` goes to and that are not told yet
    primary key (day, lane, batch)  -- two writers of one batch have to name the same day
) partition by range (day);
create index tail_position_newest on tail_position (lane, batch);
-- Never compressed: that takes longer than the deliveries of the chunk. Partitions take this over.
alter table tail_position alter column rest set storage external;

-- Events that go to very many webhooks, while they are written chunk by chunk (at most one in a lane), with the
-- webhooks whose deliveries are not written yet. The message is written with the first chunk.
create view fan_out_begun as
select l.lane, p.outbox_id, p.rest
  from generate_series(0, 2) as l (lane)
 cross join lateral (
    select t.outbox_id, t.rest from tail_position t where t.lane = l.lane order by t.batch desc limit 1) p
 where p.rest is not null;

-- Of the shard's webhooks, every delivery of the lane in a batch up to `batch` has a fact or is of one that waits:
-- `waiting` is an array of [webhook id, outbox id]: its deliveries after that one. In lane 3 `batch` is a
-- time in microseconds: everything that was due up to then has been attempted.
create table tail_checkpoint (
    day        date not null default (clock_timestamp() at time zone 'UTC')::date,
    shard      smallint not null,
    lane       smallint not null,
    id         bigint generated always as identity,
    run_id     bigint not null,
    batch      bigint not null,
    waiting    json not null,
    primary key (day, shard, lane, id)
) partition by range (day);
create index tail_checkpoint_newest on tail_checkpoint (shard, lane, id);

-- After a restore (`dispatcher rebase`): every row of the outbox up to `outbox_id` has been dealt with, whatever
-- its transaction id, which may be another server's. Ids go on far beyond it, so none is given twice.
create table rebase (
    id        bigint generated always as identity primary key,
    at        timestamptz not null default clock_timestamp(),
    run_id    bigint not null,
    outbox_id bigint not null
);

-- Which copy of the database runs went on in, whenever that was another than before: a dump restored beside it has
-- another oid, a promoted standby and a recovery to a point in time have another timeline.
create table incarnation (
    id           bigint primary key,  -- one more than the newest, so of two who notice one writes it down
    at           timestamptz not null default clock_timestamp(),
    run_id       bigint not null,
    database_oid oid not null,
    timeline     integer,              -- of the server's log
    acknowledged boolean not null,     -- by `dispatcher rebase`; else a run noticed it and went on
    reaches      timestamptz           -- this copy knows everything until then: when its newest message was inserted
);

-- A window of a webhook's past that is to be sent again (daemon/recoveries.py), and how far that has come:
-- the newest row of progress. `place` is an outbox id of `day`; those before it are dealt with.
create table recovery (
    id            bigint generated always as identity primary key,
    public_id     text not null unique check (public_id like 'rcv\_%'),
    webhook_id    bigint not null references webhook (id),
    since         timestamptz not null,
    until         timestamptz not null,
    include       text[] not null
                  check (cardinality(include) > 0 and include <@ array['failed', 'cancelled', 'missing']),
    counted       json not null,     -- deliveries found when it was asked for, by what they were
    counted_all   boolean not null,  -- false: there were more than are counted
    actor         text not null,     -- an API key's id
    created_at    timestamptz not null default clock_timestamp(),
    check (since < until)
);
create index recovery_by_webhook on recovery (webhook_id, id);
create table recovery_progress (
    recovery_id bigint not null references recovery (id),
    step        integer not null check (step > 0),
    run_id      bigint not null,
    phase       text not null check (phase in ('closed', 'missing', 'completed', 'stopped')),
    day         date,
    place       bigint not null default 0,
    failed      bigint not null,     -- deliveries requested so far, by what they had been
    cancelled   bigint not null,
    missing     bigint not null,
    reason      text,                -- of a stop
    at          timestamptz not null default clock_timestamp(),
    primary key (recovery_id, step)
);
create unique index recovery_ended on recovery_progress (recovery_id) where phase in ('completed', 'stopped');

-- Answers to requests with an Idempotency-Key, kept for a day so that a repeated request is answered and
-- not done again. An ordinary table: what is older is deleted.
create table idempotency_key (
    api_key_id bigint not null references api_key (id),
    key        bytea not null,       -- SHA-256, as clients choose it
    request    bytea not null,       -- SHA-256 of method, path and body
    answer     bytea,                -- encrypted, since it may show a secret; null while it is made
    created_at timestamptz not null default now(),
    primary key (api_key_id, key)
);
create index idempotency_key_by_age on idempotency_key (created_at);

create function protect_append_only(relation regclass) returns void
    language plpgsql set search_path = pg_catalog, public as $$
begin
    execute format('create trigger append_only before update or delete or truncate on %s
                    for each statement execute function public.append_only()', relation);
    execute format('alter table %s enable always trigger append_only', relation);
end $$;

select protect_append_only(name::regclass) from unnest(array[
    'outbox', 'message', 'delivery', 'delivery_event', 'claim', 'tail_position', 'tail_checkpoint', 'audit',
    'rebase', 'incarnation', 'recovery', 'recovery_progress'
]) as name;

-- Lets the outbox's ids go on far beyond those given so far; returns the last one skipped. Called where the server's
-- history branched off: ids given in what was lost are known to receivers, as part of delivery ids.
create function skip_outbox_ids() returns bigint
    language sql security definer set search_path = pg_catalog, public, pg_temp as $$
    select setval(name, coalesce(pg_sequence_last_value(name), 0) + 1000000000)
      from (select pg_get_serial_sequence('public.outbox', 'id')::regclass as name) s
$$;

-- ---------------------------------------------------------------------------------------------------
-- Partitions
-- ---------------------------------------------------------------------------------------------------

create function partitioned_tables() returns text[]
    language sql immutable as $$
    select array['outbox', 'message', 'delivery', 'delivery_event', 'claim', 'tail_position', 'tail_checkpoint']
$$;

-- Makes the partitions of every month from `first` to `last`; returns how many were made. They are made
-- apart and attached, which stands in nobody's way: CREATE TABLE … PARTITION OF would wait for every open
-- transaction that has inserted, and every producer for it. Insert-only tables are vacuumed early, so that
-- index-only scans stay cheap and rows are frozen on the first pass.
create function create_partitions(first date, last date) returns integer
    language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    month date := date_trunc('month', first)::date;
    made  integer := 0;
    base  text;
    part  text;
begin
    perform pg_advisory_xact_lock(1735550316, 3);
    while month <= last loop
        foreach base in array partitioned_tables() loop
            part := base || to_char(month, '"_y"YYYY"m"MM');
            continue when to_regclass('public.' || part) is not null;
            execute format(
                'create table public.%I (like public.%I including defaults including constraints including storage)
                 with (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02,
                       autovacuum_freeze_min_age = 0)', part, base);
            perform protect_append_only(('public.' || part)::regclass);
            execute format('alter table public.%I attach partition public.%I for values from (%L) to (%L)',
                           base, part, month, (month + interval '1 month')::date);
            if base = 'outbox' then
                -- Unique in its month (a partitioned table has no unique index without its key); an
                -- earlier month's key is found by the trigger.
                execute format('create unique index %I on public.%I (dedup_key) where dedup_key is not null',
                               part || '_dedup_key', part);
            end if;
            made := made + 1;
        end loop;
        month := (month + interval '1 month')::date;
    end loop;
    return made;
end $$;

-- Drops the oldest month that ended before `before`, if nothing in it is unfinished and no lane still
-- has to read it. Returns the month, or null when there is none that may go now.
create function drop_oldest_month(before date) returns date
    language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    months date[];
    month  date;
    after  date;
    next   date;  -- the oldest month that stays; where nobody made partitions for long, some are missing in between
    base   text;
begin
    perform pg_advisory_xact_lock(1735550316, 3);
    months := array(select to_date(right(c.relname, 7), 'YYYY"m"MM') as first
                      from pg_inherits i join pg_class c on c.oid = i.inhrelid
                     where i.inhparent = 'public.outbox'::regclass order by first);
    month := months[1];
    next := months[2];
    after := month + interval '1 month';
    if next is null or after > before then
        return null;
    end if;
    -- Three joins of whole partitions: a look-up for each delivery would take minutes.
    if exists (
        select from outbox o
         where o.day >= month and o.day < after
           and not exists (select from message m
                            where m.day = o.day and m.outbox_id = o.id and m.day >= month and m.day < after)
    ) or exists (
        select from fan_out_begun b
          join message m on m.outbox_id = b.outbox_id and m.day >= month and m.day < after
    ) or exists (
        select from delivery d
         where d.day >= month and d.day < after
           and not exists (select from delivery_event e
                            where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id
                              and e.day >= month and e.day < after)
    ) or exists (
        select from delivery_event e
         where e.day >= month and e.day < after and (e.state = 'pending' or e.next_attempt_at is not null)
           and not exists (select from delivery_event l
                            where l.day = e.day and l.outbox_id = e.outbox_id and l.webhook_id = e.webhook_id
                              and (l.attempt_no, l.step) > (e.attempt_no, e.step)
                              and l.day >= month and l.day < after)
    ) then
        return null;
    end if;
    -- A lane that was quiet for so long is remembered from the oldest month that stays: without its
    -- position its batches would be counted from one again.
    insert into tail_position (day, lane, batch, run_id, done, target, xid, outbox_id, system_id, rest)
    select next, n.lane, n.batch, n.run_id, n.done, n.target, n.xid, n.outbox_id, n.system_id, n.rest
      from generate_series(0, 2) l (lane)
     cross join lateral (select * from tail_position p where p.lane = l.lane order by p.batch desc limit 1) n
     where n.day < after;
    insert into tail_checkpoint (day, shard, lane, run_id, batch, waiting)
    select next, n.shard, n.lane, n.run_id, n.batch, n.waiting
      from generate_series(0, (select shards - 1 from installation)) s (shard)
     cross join generate_series(0, 3) l (lane)
     cross join lateral (
        select * from tail_checkpoint c
         where c.shard = s.shard and c.lane = l.lane order by c.id desc limit 1) n
     where n.day < after;
    -- Never stand in the producers' way: give up at once, the next turn tries again. Their table goes
    -- last, so that they wait for nothing else.
    set local lock_timeout = '100ms';
    for base in select t.name from unnest(partitioned_tables()) with ordinality t (name, place)
                 order by t.place desc loop
        execute format('drop table if exists public.%I', base || to_char(month, '"_y"YYYY"m"MM'));
    end loop;
    return month;
exception
    when lock_not_available then
        return null;
end $$;

-- ---------------------------------------------------------------------------------------------------
-- Validation of the outbox
-- ---------------------------------------------------------------------------------------------------

-- Gives `source` as jsonb. JSON may spell what jsonb refuses, U+0000 and halves of surrogate pairs; they
-- can be delivered as they are, so they pass, and read as U+FFFD here.
create function outbox_readable(source text) returns jsonb
    language plpgsql immutable strict set search_path = pg_catalog, public
    set standard_conforming_strings = on as $$
begin
    return source::jsonb;
exception
    when untranslatable_character or invalid_text_representation then
        return regexp_replace(source,
            '(?<!\\)((\\\\)*)\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})', '\1\\ufffd', 'g')::jsonb;
end $$;

-- Says what jsonb does not tell about the JSON in `source`, since it keeps the last of duplicate keys only
-- and readers see them all: a number beyond a double, or structures nested too deep. Null when all is well.
create function outbox_hidden_problem(source text) returns text
    language plpgsql immutable strict set search_path = pg_catalog, public
    set standard_conforming_strings = on as $$
declare
    bare text := regexp_replace(source, '"([^"\\]|\\.)*"', '"', 'g');  -- without the contents of strings
begin
    begin
        if exists (
            select from regexp_matches(bare, '-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?', 'g') as found (number)
             where length(number[1]) > 4 and abs(number[1]::numeric) > 1.7976931348623157e308
        ) then
            raise numeric_value_out_of_range;
        end if;
    exception
        when numeric_value_out_of_range then
            return 'data: holds a number that JSON readers cannot hold'
                   ' (beyond 1.7976931348623157e308, or of more than 16383 decimals)';
    end;
    for level in 0..64 loop  -- each turn takes the innermost ones away
        bare := regexp_replace(bare, '[[{][^][{}]*[]}]', '', 'g');
        if bare !~ '[[{]' then
            return null;
        end if;
    end loop;
    return 'data: nested deeper than 64 levels';
end $$;

-- What is wrong with a row, for the few whose spelling or contents the short way does not vouch for: raises an
-- error that names the field, or gives the lane and the data as jsonb.
create function outbox_examine(
    type_name text, source text, occurred timestamptz, network text,
    out lane smallint, out parsed jsonb, out event_id text)
    language plpgsql stable set search_path = pg_catalog, public, pg_temp as $$
declare
    kind    public.event_type%rowtype;
    problem text;
begin
    select * into kind from public.event_type where name = type_name;
    if not found then
        raise exception 'type: "%" is not a registered event type; expected one of %', type_name,
            (select string_agg(name, ', ' order by name) from public.event_type)
            using errcode = 'check_violation', table = 'outbox', column = 'type';
    end if;
    if source is null then
        raise exception 'data: expected a JSON object, got null'
            using errcode = 'not_null_violation', table = 'outbox', column = 'data';
    end if;
    if octet_length(source) > 262144 then
        problem := format('data: expected at most 262144 bytes (256 KiB), got %s', octet_length(source));
    else
        problem := outbox_hidden_problem(source);
        if problem is null then
            parsed := outbox_readable(source);
        end if;
        if problem is null and not coalesce(parsed @@ kind.rule, false) then
            problem := coalesce(event_data_problem(type_name, kind.fields, parsed),
                                format('data: does not fit %s', type_name));
        elsif problem is null and jsonb_path_exists(parsed, '$.**{65}') then
            problem := 'data: nested deeper than 64 levels';
        end if;
        event_id := case when jsonb_typeof(parsed -> 'event_id') = 'string' then nullif(parsed ->> 'event_id', '') end;
        if problem is null and octet_length(event_id) > 2000 then  -- an index holds no more than 2704
            problem := format('data.event_id: expected at most 2000 bytes, got %s', octet_length(event_id));
        end if;
    end if;
    if problem is null and (not isfinite(occurred)
                            or extract(year from occurred at time zone 'UTC') not between 1 and 9999) then
        problem := format('occurred_at: expected a time in the years 1 to 9999, got %s', occurred);
    end if;
    if problem is null and network = '' then
        problem := 'network_id: expected a network''s id or null, got an empty string';
    end if;
    if problem is not null then
        raise exception '%', problem using errcode = 'check_violation', table = 'outbox',
            column = split_part(split_part(problem, ':', 1), '.', 1);
    end if;
    lane := kind.lane;
end $$;

-- What is in the table can be delivered: everything else is refused here, in the producer's own transaction, by an
-- error that names the field. Two triggers do so: the short way, which nearly every row takes, and `outbox_examined`
-- for the rest: rows without a lane, which the short way does not vouch for, and rows without a transaction id,
-- about which there is more to do.
--
-- Makes the short way, `outbox_accept`, whenever an event type changes, with all rules inside (decision 26). With
-- eight writers each microsecond counts, and caches are cold (measured together: 40 of 110 µs a row):
-- - It reads no table: a plan with a scan costs as much as all tests of a row.
-- - It has no SET and no SECURITY DEFINER: to change settings for each row costs as much again. So it is nobody but
--   the producer, who may have put anything in the way of names: every one is given with its schema, and so is every
--   operator, also those behind `between`, `nullif` and `is distinct from`, which are not used.
-- - It has few statements, since PL/pgSQL prepares each anew in every transaction, and no query.
-- - It is stable, which saves a snapshot for each expression. What it calls for is no data.
-- A session learns of the new function when it begins a transaction or touches a table for the first time in one. What
-- is older than that, the old rules decide; a type that they do not know, the table does.
create function outbox_compile() returns void
    language plpgsql security definer set search_path = pg_catalog, public, pg_temp
    set standard_conforming_strings = on as $compile$
declare
    names text;
    lanes text;
    rules text;
begin
    perform from public.registry_version for update;  -- two at once would break each other
    select coalesce(array_agg(t.name), '{}')::text, coalesce(array_agg(t.lane), '{}')::text,
           coalesce(array_agg(t.rule), '{}')::text
      into names, lanes, rules
      from (select name, lane, rule from public.event_type order by lane, name collate "C") t;
    execute format('create or replace function public.outbox_accept() returns trigger language plpgsql stable as %L',
                   format($accept$
-- Made by outbox_compile().
declare
    kind   integer := pg_catalog.array_position(%1$L::pg_catalog.text[], new.type);
    parsed pg_catalog.jsonb;
begin
    -- Only such spellings can hold what jsonb, a double or a reader's stack cannot: 39 digits and an exponent of two
    -- make no more than 1e138, and 308 need 210 bytes besides that exponent. So many digits in 400 bytes, or in 590,
    -- fill one of the places that are looked at.
    parsed := case
        when pg_catalog.octet_length(new.data::pg_catalog.text) operator(pg_catalog.<=) 1000
         and new.data::pg_catalog.text operator(pg_catalog.!~~) E'%%\\\\u%%'
         and new.data::pg_catalog.text operator(pg_catalog.!~) E'[:,[\\s]-?[0-9][0-9.]*[eE][-+]?[0-9]{3}'
         and (pg_catalog.octet_length(new.data::pg_catalog.text) operator(pg_catalog.<=) 210
              or pg_catalog.octet_length(new.data::pg_catalog.text) operator(pg_catalog.<=) 590
                 and pg_catalog.ltrim(pg_catalog.substr(new.data::pg_catalog.text, 191, 20), '0123456789') operator(pg_catalog.<>) ''
                 and (pg_catalog.octet_length(new.data::pg_catalog.text) operator(pg_catalog.<=) 400
                      or pg_catalog.ltrim(pg_catalog.substr(new.data::pg_catalog.text, 381, 20), '0123456789') operator(pg_catalog.<>) '')
              or new.data::pg_catalog.text operator(pg_catalog.!~) '[0-9]{40}')
        then new.data::pg_catalog.jsonb end;
    if parsed operator(pg_catalog.@@) (%2$L::pg_catalog.jsonpath[])[kind]
        and not pg_catalog.jsonb_path_exists(parsed, '$.**{65}')
        and new.occurred_at operator(pg_catalog.>=) '0001-01-02 00:00+00'
        and new.occurred_at operator(pg_catalog.<=) '9999-12-30 00:00+00'
        and (new.network_id operator(pg_catalog.<>) '') is not false
    then
        new.lane := (%3$L::pg_catalog.int2[])[kind];
        new.event_id := case
            when parsed operator(pg_catalog.->>) 'event_id' operator(pg_catalog.<>) ''
             and pg_catalog.jsonb_typeof(parsed operator(pg_catalog.->) 'event_id') operator(pg_catalog.=) 'string'
            then parsed operator(pg_catalog.->>) 'event_id' end;
        new.network_id := coalesce(new.network_id, case
            when parsed operator(pg_catalog.->>) 'network_id' operator(pg_catalog.<>) ''
            then parsed operator(pg_catalog.->>) 'network_id' end);
        -- The doorbell: the dispatcher holds the lane's lock exclusively while it is to be rung for. NOTIFY from
        -- every INSERT would cost producers most of their rate (commits that notify are serial).
        if new.dedup_key is null and new.traceparent is null
            and (new.network_id is not null or new.event_id is null)
            and new.xid operator(pg_catalog.=) pg_catalog.pg_current_xact_id()
            and (case when pg_catalog.pg_try_advisory_lock_shared(1735550316, 16 operator(pg_catalog.+) new.lane)
                 then pg_catalog.pg_advisory_unlock_shared(1735550316, 16 operator(pg_catalog.+) new.lane) end)
        then
            return new;
        end if;
    else
        new.lane := null;
    end if;
    new.xid := null;
    return new;
end $accept$, names, rules, lanes));
end $compile$;
select outbox_compile();  -- no rule yet: the types come below

create function event_types_changed() returns trigger
    language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    update public.registry_version set version = version + 1;
    perform public.outbox_compile();
    return null;
end $$;

create trigger registry_changed after insert or update or delete or truncate on event_type
    for each statement execute function event_types_changed();

-- Decides about a row that the short way left without a lane, and does the rest for one that it left without a
-- transaction id.
create function outbox_examined() returns trigger
    language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    parsed jsonb;
begin
    new.xid := pg_current_xact_id();
    if new.lane is null then
        select e.lane, e.parsed, e.event_id into new.lane, parsed, new.event_id
          from outbox_examine(new.type, new.data::text, new.occurred_at, new.network_id) e;
        new.network_id := coalesce(new.network_id, nullif(parsed ->> 'network_id', ''));
    end if;

    -- No alert is refused for what traces it. Versions to come may append fields (W3C Trace Context, 4.3);
    -- zeros are no id.
    if new.traceparent !~ '^(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{1,200})?$' then
        raise notice 'traceparent: expected one of W3C Trace Context, such as "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", got "%"; it is left out', left(new.traceparent, 60);
        new.traceparent := null;
    end if;

    if new.dedup_key is not null then
        if octet_length(new.dedup_key) > 2000 then
            raise exception 'dedup_key: expected at most 2000 bytes, got %', octet_length(new.dedup_key)
                using errcode = 'check_violation', table = 'outbox', column = 'dedup_key';
        end if;
        -- Two transactions on both sides of the end of a month would not see each other: one at a time for
        -- each key then. Not always, since a bulk insert would fill the server's table of locks.
        if date_trunc('month', (new.recorded_at - interval '1 hour') at time zone 'UTC')
           <> date_trunc('month', (new.recorded_at + interval '1 hour') at time zone 'UTC') then
            perform pg_advisory_xact_lock(hashtextextended(new.dedup_key, 1735550316));
        end if;
        if exists (select from public.outbox o
                    where o.dedup_key = new.dedup_key and o.day < date_trunc('month', new.day)::date) then
            raise notice 'dedup_key: "%" was inserted in an earlier month; the row is skipped', new.dedup_key;
            return null;
        end if;
    end if;

    if new.network_id is null and new.event_id is not null and not new.test then
        select o.network_id into new.network_id from public.outbox o
         where o.event_id = new.event_id and o.network_id is not null and not o.test
         order by o.id limit 1;
    end if;
    -- The doorbell, as above. Whoever rings has a transaction id before.
    if pg_try_advisory_lock_shared(1735550316, 16 + new.lane) then
        perform pg_advisory_unlock_shared(1735550316, 16 + new.lane);
    else
        perform pg_notify('dispatcher_outbox', new.lane::text);
    end if;
    return new;
end $$;

create trigger accept before insert on outbox for each row execute function outbox_accept();
create trigger examine before insert on outbox for each row when (new.xid is null)
    execute function outbox_examined();
alter table outbox enable always trigger accept;
alter table outbox enable always trigger examine;

-- ---------------------------------------------------------------------------------------------------
-- Runs: who sends to which webhooks
-- ---------------------------------------------------------------------------------------------------

-- Each time a process takes a shard it starts a run; its id is the epoch that fences what it writes.
create table run (
    id         bigint generated always as identity primary key,
    shard      smallint not null default 0,
    owner      text not null,  -- host, boot, pid namespace, pid and start time: tells a dead process
    version    text not null,
    started_at timestamptz not null default clock_timestamp()
);
-- clean: every fact of the run is recorded. rescued: a later run wrote down what the crash left open.
create table run_end (
    run_id bigint primary key references run (id),
    how    text not null check (how in ('clean', 'rescued')),
    at     timestamptz not null default clock_timestamp()
);
-- The holder of shard 0 leads: it reads the outbox for all.
create table lease (
    shard      smallint primary key,
    run_id     bigint not null references run (id),
    owner      text not null,
    expires_at timestamptz not null
);
-- The daemons that are there to share the webhooks, while there is more than one shard.
create table member (
    owner      text primary key,  -- as in `run`
    version    text not null,
    joined_at  timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null
);

-- ---------------------------------------------------------------------------------------------------
-- Built-in event types (the guide's, and the dispatcher's own)
-- ---------------------------------------------------------------------------------------------------

insert into event_type (name, description, lane, built_in, fields, sample) values
('event.detected', 'An earthquake was detected', 0, true,
 '{"event_id": "string", "origin_time": "timestamp", "latitude": "latitude", "longitude": "longitude",
   "depth_km": "number?", "magnitude": "number|null", "magnitude_type": "string?",
   "location_description": "string?", "network_id": "string?"}',
 '{"event_id":"evt_abc123","origin_time":"2024-01-15T14:32:41.500Z","latitude":37.7749,"longitude":-122.4194,"depth_km":8.5,"magnitude":4.2,"magnitude_type":"ML","location_description":"5 km NE of San Francisco, CA","network_id":"net_xyz789"}'),
('event.updated', 'Parameters of an earthquake were revised', 1, true,
 '{"event_id": "string", "changes": "object", "network_id": "string?"}',
 '{"event_id":"evt_abc123","changes":{"magnitude":{"old":4.2,"new":4.4}}}'),
('sensor.offline', 'A sensor went offline', 2, true,
 '{"sensor_id": "string", "station_code": "string", "last_seen": "timestamp", "network_id": "string?"}',
 '{"sensor_id":"sen_abc123","station_code":"GRIL01","last_seen":"2024-01-15T14:30:00Z","network_id":"net_xyz789"}'),
('sensor.online', 'A sensor came back online', 2, true,
 '{"sensor_id": "string", "station_code": "string", "offline_duration_seconds": "number", "network_id": "string?"}',
 '{"sensor_id":"sen_abc123","station_code":"GRIL01","offline_duration_seconds":3600,"network_id":"net_xyz789"}'),
('webhook.test', 'A test, sent on request to one webhook', 2, true,
 '{"webhook_id": "string", "message": "string"}',
 '{"webhook_id":"whk_0123456789abcdefghjkmnpqrs","message":"This is a test."}'),
('webhook.failing', 'A webhook has answered nothing but failures for a day', 2, true,
 '{"webhook_id": "string", "url": "string", "failing_since": "timestamp"}',
 '{"webhook_id":"whk_0123456789abcdefghjkmnpqrs","url":"https://your-server.com/grillo-webhook","failing_since":"2024-01-15T14:32:50Z"}'),
('webhook.disabled', 'A webhook was deactivated after failing for days, or because it is gone', 2, true,
 '{"webhook_id": "string", "url": "string", "reason": "string"}',
 '{"webhook_id":"whk_0123456789abcdefghjkmnpqrs","url":"https://your-server.com/grillo-webhook","reason":"gone"}');

-- ---------------------------------------------------------------------------------------------------
-- Who may do what
-- ---------------------------------------------------------------------------------------------------

-- outbox_producer INSERTs into the outbox and nothing else; dispatcher_daemon reads, appends, and
-- changes only the small tables. Grant them to login roles.
do $$
begin
    if not exists (select from pg_roles where rolname = 'outbox_producer') then
        create role outbox_producer nologin;
    end if;
    if not exists (select from pg_roles where rolname = 'dispatcher_daemon') then
        create role dispatcher_daemon nologin;
    end if;
exception
    when insufficient_privilege then
        raise warning 'roles outbox_producer and dispatcher_daemon were not created: % may not create roles. Create them and run "dispatcher migrate" again', current_user;
    when duplicate_object or unique_violation then
        null;  -- another migration on this server made them at this moment
end $$;

create function grant_roles() returns void
    language plpgsql set search_path = pg_catalog, public as $$
begin
    if to_regrole('outbox_producer') is not null then
        grant insert (type, data, occurred_at, network_id, dedup_key, traceparent) on outbox to outbox_producer;
    end if;
    if to_regrole('dispatcher_daemon') is not null then
        grant select, insert on all tables in schema public to dispatcher_daemon;
        grant update on webhook, organization, api_key, lease, registry_version, event_type to dispatcher_daemon;
        grant update (key_check, shards) on installation to dispatcher_daemon;
        grant update, delete on idempotency_key, dashboard_session, member to dispatcher_daemon;
        grant delete on lease to dispatcher_daemon;
        grant delete on organization_network to dispatcher_daemon;
        grant usage on all sequences in schema public to dispatcher_daemon;
        grant execute on function create_partitions(date, date), drop_oldest_month(date) to dispatcher_daemon;
        grant execute on function skip_outbox_ids() to dispatcher_daemon;
    end if;
end $$;
revoke all on function create_partitions(date, date), drop_oldest_month(date), skip_outbox_ids(), grant_roles(),
    outbox_compile() from public;

insert into installation (schema_version, compatible_from) values (1, 1);
select create_partitions(current_date - 31, (current_date + interval '13 months')::date);
select grant_roles();

with everyone as (
    insert into organization (public_id, name)
    values ('org_' || replace(gen_random_uuid()::text, '-', ''), 'default') returning id
)
insert into organization_network (organization_id, network_id) select id, '*' from everyone;
