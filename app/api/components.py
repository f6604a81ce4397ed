"""What one service process is made of, put together from the settings."""

from dataclasses import dataclass

from celery import Celery

from app.db.database import Database
from app.queue import Publisher, make_celery
from app.services.agents import Agents
from app.services.compatibility import CompatibilityService
from app.services.dispatch import Dispatcher
from app.services.jobs import Jobs
from app.services.library import Library
from app.services.pretrained import Hub
from app.services.sweep import Sweeper
from app.services.uploads import Uploads
from app.settings import Settings
from app.storage import Store, open_store


@dataclass(frozen=True)
class Components:
    """The parts that routes use, and the tasks that run beside them."""

    settings: Settings
    database: Database
    store: Store
    celery: Celery
    publisher: Publisher
    library: Library
    uploads: Uploads
    hub: Hub
    jobs: Jobs
    agents: Agents
    compatibility: CompatibilityService
    dispatcher: Dispatcher
    sweeper: Sweeper

    @classmethod
    def build(cls, settings: Settings) -> "Components":
        """Connect everything; nothing is started and no server is spoken to yet."""
        database = Database(settings.database)
        store = open_store(settings)
        celery = make_celery(settings)
        publisher = Publisher(celery)
        library = Library(database, store, settings)
        dispatcher = Dispatcher(database, publisher, settings)
        return cls(
            settings=settings,
            database=database,
            store=store,
            celery=celery,
            publisher=publisher,
            library=library,
            uploads=Uploads(database, store, library, settings),
            hub=Hub(library, settings),
            jobs=Jobs(database, wake=dispatcher.wake),
            agents=Agents(database, store, settings),
            compatibility=CompatibilityService(database, wake=dispatcher.wake),
            dispatcher=dispatcher,
            sweeper=Sweeper(database, store, settings),
        )

    def start(self) -> None:
        """Start the periodic tasks."""
        self.dispatcher.start()
        self.sweeper.start()

    def stop(self) -> None:
        """Stop the periodic tasks and close the connections."""
        self.dispatcher.stop()
        self.sweeper.stop()
        self.database.close()
