# docker build -t hyperdrip .
# docker run --rm -e DATABASE_URL=postgresql://... hyperdrip worker
# Without DATABASE_URL the embedded PostgreSQL keeps its data in the volume /data.
FROM python:3.12-slim

COPY . /src
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore "/src[embedded]" \
    && rm -rf /src \
    && useradd --system --create-home --shell /usr/sbin/nologin hyperdrip \
    && install -d -o hyperdrip -g hyperdrip -m 700 /data

USER hyperdrip
WORKDIR /home/hyperdrip
ENV HYPERDRIP_HOME=/data PYTHONUNBUFFERED=1
VOLUME /data
ENTRYPOINT ["hyperdrip"]
