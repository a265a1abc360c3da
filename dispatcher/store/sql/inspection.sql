-- inspect_server: the server, its clock, who we are there, and which of the rights that the daemon needs are missing
select current_setting('server_version') as version, current_setting('server_version_num')::int as number,
       current_user::text as login, pg_is_in_recovery() as standby,
       current_setting('fsync')::boolean as flushes, pg_size_bytes(current_setting('min_wal_size')) as log_kept_bytes,
       current_setting('wal_init_zero')::boolean as log_zeroed,
       coalesce((select r.rolsuper from pg_roles r where r.rolname = current_user), false) as superuser,
       to_regclass('public.installation') is not null as has_schema,
       coalesce(has_schema_privilege('public', to_regnamespace('public')::oid, 'create'), false) as open_schema,
       array(select name from unnest(array['outbox_producer', 'dispatcher_daemon']) as name
              where to_regrole(name) is null) as missing_roles,
       array(select needed.privilege || ' on ' || needed.name
               from (values ('outbox', 'select'), ('outbox', 'insert'), ('message', 'insert'), ('delivery', 'insert'),
                            ('delivery_event', 'insert'), ('claim', 'insert'), ('tail_position', 'insert'),
                            ('lease', 'update'), ('webhook', 'update')) as needed (name, privilege)
              where has_table_privilege(to_regclass('public.' || needed.name), needed.privilege) is false
            ) as missing_rights;

-- inspect_webhook: a webhook by its public id, of organization $2 or of any, with the networks that its owner hears of
select w.id, w.organization_id, w.url, w.events, w.network_ids, w.active, w.disabled_reason,
       w.deleted_at is not null as deleted, coalesce(w.ca_certificates, '') as ca_certificates,
       array(select n.network_id from organization_network n
              where n.organization_id = w.organization_id order by n.network_id) as heard_of,
       array(select e from unnest(w.events) as e
              where e not like '%*' and not exists (select from event_type t where t.name = e)) as unknown_events
  from webhook w
 where w.public_id = $1 and ($2::bigint is null or w.organization_id = $2);
