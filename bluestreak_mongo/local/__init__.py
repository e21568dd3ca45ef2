"""A throw-away MongoDB server on this machine, for tests, demonstrations and laptops."""

from bluestreak_mongo.local.mongod import LocalMongoError, Member
from bluestreak_mongo.local.server import LocalMongo

__all__ = ["LocalMongo", "LocalMongoError", "Member"]
