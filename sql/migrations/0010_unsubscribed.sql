-- Which message made a lead unsubscribe, when that is known: each link tells of its own message. It may be
-- one of an earlier run, and so of another campaign than the lead's present one.
alter table hyperdrip.lead add column unsubscribed_run integer;
alter table hyperdrip.lead add column unsubscribed_number integer;
comment on column hyperdrip.lead.unsubscribed_number is
'number of the message that made it unsubscribe, in that run; null: not known';
