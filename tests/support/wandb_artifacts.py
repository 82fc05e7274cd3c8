"""The part of W&B's protocol that stores and serves artifacts; openwandb stores only their names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote


@dataclass
class Stored:
    """One version of an artifact."""

    project: str
    name: str
    type: str
    aliases: list[str]
    metadata: str
    digest: str
    files: dict[str, bytes] = field(default_factory=dict)
    """Path in the artifact → content; the manifest's path is empty."""
    used_by: list[str] = field(default_factory=list)


class ArtifactStore:
    """Answers the client's requests about artifacts."""

    def __init__(self) -> None:
        self.url = ""
        """URL of the front; files are below it."""
        self.artifacts: list[Stored] = []

    def named(self, name: str, alias: str) -> Stored | None:
        """The newest version of an artifact that has the alias."""
        versions = [stored for stored in self.artifacts if stored.name == name and alias in stored.aliases]
        return versions[-1] if versions else None

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """The data of a GraphQL response; None if the query is not about artifacts."""
        given = variables.get("input", variables)
        for operation, handler in self._operations().items():
            if f" {operation}(" in query or f" {operation} (" in query:
                return handler(given)
        return None

    def _operations(self) -> dict[str, Any]:
        return {
            "ArtifactType": lambda given: {"project": {"artifact": None}},
            "CreateArtifact": self._create,
            "CreateArtifactManifest": lambda given: {"createArtifactManifest": self._manifest(given)},
            "UpdateArtifactManifest": lambda given: {"updateArtifactManifest": self._manifest(given)},
            "CreateArtifactFiles": self._create_files,
            "CommitArtifact": lambda given: {
                "commitArtifact": {"artifact": self._short(given["artifactID"])}
            },
            "UseArtifact": self._use,
            "ArtifactByID": lambda given: {"artifact": self._facts(int(given["id"]))},
            "ArtifactMembershipByName": self._membership,
            "FetchArtifactManifest": lambda given: {
                "artifact": {"currentManifest": {"file": {"directUrl": self._file_url(given["id"], "")}}}
            },
            "GetArtifactMembershipFileUrls": self._file_urls,
        }

    def _create(self, given: dict[str, Any]) -> dict[str, Any]:
        stored = Stored(
            project=given["projectName"],
            name=given["artifactCollectionName"],
            type=given["artifactTypeName"],
            aliases=[entry["alias"] for entry in given["aliases"]],
            metadata=given.get("metadata") or "{}",
            digest=given["digest"],
        )
        self.artifacts.append(stored)
        short = {**self._short(str(len(self.artifacts) - 1)), "state": "PENDING"}
        return {"createArtifact": {"artifact": {**short, "artifactSequence": {"latestArtifact": None}}}}

    def _manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        number = given.get("artifactID") or given["artifactManifestID"]
        file = {"id": number, "uploadUrl": self._file_url(number, ""), "uploadHeaders": []}
        return {"artifactManifest": {"id": number, "file": file}}

    def _create_files(self, given: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {
                "storagePath": f"stored/{entry['artifactID']}/{entry['name']}",
                "uploadUrl": self._file_url(entry["artifactID"], entry["name"]),
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": entry["artifactID"]},
            }
            for entry in given["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _use(self, given: dict[str, Any]) -> dict[str, Any]:
        self.artifacts[int(given["artifactID"])].used_by.append(given["runName"])
        return {"useArtifact": {"artifact": self._short(given["artifactID"])}}

    def _short(self, number: str) -> dict[str, Any]:
        return {"id": number, "digest": self.artifacts[int(number)].digest, "state": "COMMITTED"}

    def _membership(self, given: dict[str, Any]) -> dict[str, Any]:
        stored = self.named(*given["name"].split(":"))
        if stored is None:
            return {"project": {"artifactCollectionMembership": None}}
        facts = self._facts(self.artifacts.index(stored))
        membership = {
            "__typename": "ArtifactCollectionMembership",
            "id": facts["id"],
            "versionIndex": facts["versionIndex"],
            "createdAt": facts["createdAt"],
            "aliases": [],
            "artifactCollection": facts["artifactSequence"],
            "artifact": facts,
        }
        return {"project": {"artifactCollectionMembership": membership}}

    def _facts(self, number: int) -> dict[str, Any]:
        stored = self.artifacts[number]
        entity = {"id": "1", "name": "default"}
        project = {"__typename": "Project", "id": "1", "name": stored.project, "internalId": "1"}
        return {
            "__typename": "Artifact",
            **self._short(str(number)),
            "artifactSequence": {
                "__typename": "ArtifactSequence",
                "id": "1",
                "name": stored.name,
                "project": {**project, "entity": entity},
            },
            "versionIndex": number,
            "artifactType": {"id": "1", "name": stored.type},
            "description": None,
            "metadata": stored.metadata,
            "ttlDurationSeconds": -2,
            "ttlIsInherited": False,
            "tags": [],
            "historyStep": None,
            "size": 0,
            "commitHash": "",
            "fileCount": len(stored.files),
            "createdAt": "2026-01-01T00:00:00",
            "updatedAt": None,
            "aliases": [],
        }

    def _file_urls(self, given: dict[str, Any]) -> dict[str, Any]:
        number = given["alias"].removeprefix("v")
        nodes = [
            {"__typename": "File", "id": name, "name": name, "directUrl": self._file_url(number, name)}
            for name in self.artifacts[int(number)].files
            if name
        ]
        files = {
            "pageInfo": {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False},
            "edges": [{"node": node} for node in nodes],
        }
        membership = {"artifactMembership": {"files": files}, "__typename": "ArtifactSequence"}
        return {"project": {"artifactCollection": membership}}

    def _file_url(self, number: str, name: str) -> str:
        return f"{self.url}/stored/{number}/{name}"

    def put(self, path: str, content: bytes) -> None:
        _, _, number, name = path.split("/", 3)
        self.artifacts[int(number)].files[name] = content

    def get(self, path: str) -> bytes:
        _, _, number, name = path.split("/", 3)
        return self.artifacts[int(number)].files[name]

    def get_entry(self, path: str) -> bytes:
        """A file by the address that wandb makes of a manifest, which ends with its MD5 and its last name."""
        digest, name = path.split("/")[-2:]
        found = {
            content
            for stored in self.artifacts
            for file, content in stored.files.items()
            if file.split("/")[-1] == unquote(name) and hashlib.md5(content).hexdigest() == digest
        }
        return found.pop()


def metadata(stored: Stored) -> dict[str, Any]:
    """The artifact's metadata."""
    return json.loads(stored.metadata)
