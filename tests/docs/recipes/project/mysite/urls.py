from bank import views
from django.urls import path

urlpatterns = [path("who/", views.who), path("echo/", views.echo)]
