-- open_session: a session of the dashboard for API key $2, by the hash of its token
insert into dashboard_session (hash, api_key_id) values ($1, $2);

-- session: the API key behind a session, if both are valid now; notes the use, at most once a minute
with found as materialized (
    select s.hash, s.used_at, k.id, k.public_id, k.organization_id, k.scopes, k.name, k.hint,
           o.name as organization
      from dashboard_session s
      join api_key k on k.id = s.api_key_id
      join organization o on o.id = k.organization_id
     where s.hash = $1 and s.created_at > now() - interval '7 days' and s.used_at > now() - interval '12 hours'
       and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
), noted as (
    update dashboard_session s set used_at = now()
      from found
     where s.hash = found.hash and found.used_at < now() - interval '1 minute'
)
select id, public_id, organization_id, scopes, name, hint, organization from found;

-- end_session: from now on its token opens nothing
delete from dashboard_session where hash = $1;

-- forget_sessions: delete some of those that have expired
delete from dashboard_session
 where ctid = any (array(
    select ctid from dashboard_session where used_at < now() - interval '12 hours'
     order by used_at limit 100 for update skip locked));
