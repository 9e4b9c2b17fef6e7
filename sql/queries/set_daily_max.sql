-- Store another daily maximum; every claim reads it from here.
update hyperdrip.instance set daily_max = %(daily_max)s;
