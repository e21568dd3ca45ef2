"""A throw-away MongoDB server on this machine, for tests, demonstrations and laptops."""

from bluestreak_mongo.local.server import LocalMongo, LocalMongoError, Member

__all__ = ["LocalMongo", "LocalMongoError", "Member"]
