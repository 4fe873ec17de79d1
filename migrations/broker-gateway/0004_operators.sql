-- Approvals are evidence against the persons who gave them: append only.
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append only', tg_table_name using errcode = 'integrity_constraint_violation';
end
$$;

create trigger settlement_approvals_append_only before update or delete on settlement_approvals
    for each statement execute function refuse_change();
