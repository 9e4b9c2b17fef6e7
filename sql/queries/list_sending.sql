-- Messages of a day that are being sent, or whose worker died: envelope; by envelope.
select envelope_id
from hyperdrip.message
where day = %(day)s and state = 'sending'
order by envelope_id;
