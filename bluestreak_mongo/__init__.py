"""Bluestreak's production store: the state machine on three MongoDB collections."""

from bluestreak_core.adapter import needing

with needing("mongo", "bson", "pymongo"):
    from bluestreak_mongo.bson_rules import BsonRules
    from bluestreak_mongo.local import LocalMongo, LocalMongoError, Member
    from bluestreak_mongo.store import MongoStore

__all__ = ["BsonRules", "LocalMongo", "LocalMongoError", "Member", "MongoStore"]
