"""What the demo asks of Dagster, by the GraphQL API that the web page uses."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Whatever is not one of these has ended.
_LIVE = ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"]


class DagsterAPIError(Exception):
    """Dagster did not answer, or answered with an error of its own."""


@dataclass(frozen=True)
class DagsterAPI:
    """A code location as the web server at `url` sees it."""

    url: str
    location: str

    def daemons_are_healthy(self) -> bool:
        """Tell whether every daemon that this instance needs has been heard of lately."""
        try:
            found = self._ask(
                "{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }"
            )
        except DagsterAPIError:
            return False
        statuses = found["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(each["healthy"] for each in statuses if each["required"])

    def is_on(self, sensor: str) -> bool:
        """Tell whether a sensor is started."""
        found = self._ask(
            """query ($selector: SensorSelector!) {
                 sensorOrError(sensorSelector: $selector) {
                   ... on Sensor { sensorState { status } }
                 }
               }""",
            selector=self._selector(sensorName=sensor),
        )["sensorOrError"]
        return bool(found) and found["sensorState"]["status"] == "RUNNING"

    def switch_on(self, sensor: str) -> None:
        """Start a sensor."""
        selector = self._selector(sensorName=sensor)
        answer = self._ask(
            """mutation ($selector: SensorSelector!) {
                 startSensor(sensorSelector: $selector) {
                   __typename ... on Error { message }
                 }
               }""",
            selector=selector,
        )["startSensor"]
        if answer["__typename"] != "Sensor":
            raise DagsterAPIError(f"the sensor {sensor} does not start: {answer.get('message')}")

    def switch_off_all(self) -> None:
        """Stop every sensor and schedule that is on."""
        found = self._ask(
            """query ($location: String!) {
                 workspaceLocationEntryOrError(name: $location) {
                   ... on WorkspaceLocationEntry { locationOrLoadError {
                     ... on RepositoryLocation { repositories {
                       sensors { sensorState { id selectorId status } }
                       schedules { scheduleState { id selectorId status } }
                     } }
                   } }
                 }
               }""",
            location=self.location,
        )
        loaded = (found["workspaceLocationEntryOrError"] or {}).get("locationOrLoadError") or {}
        for repository in loaded.get("repositories", []):
            for sensor in repository["sensors"]:
                self._stop("stopSensor", "jobSelectorId", sensor["sensorState"])
            for schedule in repository["schedules"]:
                self._stop("stopRunningSchedule", "scheduleSelectorId", schedule["scheduleState"])

    def launch(self, job: str, config: Mapping[str, Any]) -> str:
        """Launch a job as the button on its page does, and return the id of the run."""
        answer = self._ask(
            """mutation ($params: ExecutionParams!) {
                 launchRun(executionParams: $params) {
                   __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message }
                 }
               }""",
            params={
                "selector": self._selector(pipelineName=job),
                "runConfigData": dict(config),
            },
        )["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DagsterAPIError(f"{job} does not start: {answer.get('message')}")
        return str(answer["run"]["runId"])

    def is_live(self, run: str) -> bool:
        """Tell whether a run has not ended yet."""
        found = self._ask(
            "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }", run=run
        )
        return found["runOrError"].get("status") in _LIVE

    def live_runs(self) -> list[str]:
        """Return the ids of runs that are queued, running or ending."""
        found = self._ask(
            """query ($filter: RunsFilter) {
                 runsOrError(filter: $filter) { ... on Runs { results { runId } } }
               }""",
            filter={"statuses": _LIVE},
        )
        return [run["runId"] for run in found["runsOrError"].get("results", [])]

    def ask_to_end(self, runs: list[str]) -> None:
        """Ask runs to end as the button in the web page does: each cleans up first."""
        self._ask(
            """mutation ($runs: [String!]!) {
                 terminateRuns(runIds: $runs, terminatePolicy: SAFE_TERMINATE) { __typename }
               }""",
            runs=runs,
        )

    def _selector(self, **what: str) -> dict[str, str]:
        return {
            "repositoryName": "__repository__",
            "repositoryLocationName": self.location,
            **what,
        }

    def _stop(self, mutation: str, selector: str, state: dict[str, Any]) -> None:
        if state["status"] == "RUNNING":
            self._ask(
                f"mutation ($id: String, $selector: String) {{"
                f" {mutation}(id: $id, {selector}: $selector) {{ __typename }} }}",
                id=state["id"],
                selector=state["selectorId"],
            )

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(  # noqa: S310 - http on loopback
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the same
                document = json.load(answer)
        except (OSError, ValueError) as error:
            raise DagsterAPIError(f"Dagster's web server does not answer: {error}") from error
        if document.get("errors"):
            raise DagsterAPIError(document["errors"][0]["message"])
        data: dict[str, Any] = document["data"]
        return data
